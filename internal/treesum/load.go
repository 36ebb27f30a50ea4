package treesum

import (
	"context"
	"errors"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// loader reads all directories of a subtree, on all processors. Each directory is opened by its name in the one above, and
// is one goroutine's.
type loader struct {
	t     *Tree
	ctx   context.Context //nolint:containedctx // lives as long as the one call that made it
	group *errgroup.Group
	spare chan struct{} // one for each goroutine that may be started
}

// load reads everything below n. t.mu is held.
func (t *Tree) load(ctx context.Context, n *Node) error {
	if n.whole || !n.IsDir() {
		return nil
	}
	fd, err := t.openDir(n)
	if err != nil {
		return t.vanished(n, err)
	}
	g, gctx := errgroup.WithContext(ctx)
	l := &loader{t: t, ctx: gctx, group: g, spare: make(chan struct{}, runtime.GOMAXPROCS(0)-1)}
	g.Go(func() error { return l.dir(fd, n) })
	if err := g.Wait(); err != nil {
		return err
	}
	if !t.plain {
		n.prune()
	}
	return nil
}

// dir reads the directory n, which fd is, and closes it.
func (l *loader) dir(fd int, n *Node) error {
	defer unix.Close(fd)
	if err := context.Cause(l.ctx); err != nil {
		return err
	}
	if !n.read {
		if err := l.t.readFrom(fd, n); err != nil {
			return err
		}
	}
	for _, k := range n.kids {
		if !k.IsDir() || k.whole || k.gone {
			continue
		}
		if err := l.enter(fd, k); err != nil {
			return err
		}
	}
	n.whole = true
	return nil
}

func (l *loader) enter(dirfd int, k *Node) error {
	fd, err := unix.Openat(dirfd, k.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EINTR) {
		return l.enter(dirfd, k)
	}
	if err != nil {
		return l.t.vanished(k, &os.PathError{Op: "open", Path: k.Path(), Err: err})
	}
	select {
	case l.spare <- struct{}{}:
		l.group.Go(func() error {
			defer func() { <-l.spare }()
			return l.dir(fd, k)
		})
		return nil
	default:
		return l.dir(fd, k)
	}
}
