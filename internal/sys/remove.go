package sys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// IsWhiteout says whether a file is overlayfs's mark that nothing is here: a character device 0:0.
func IsWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// maxOpen is how many directories RemoveAllAt has open before it moves what is deeper up to where it began: a hostile tree can be
// deeper than there are descriptors.
const maxOpen = 200

// armful is how many files one goroutine takes at a time.
const armful = 16

// RemoveAllAt removes name in the directory dirfd with all that is below, however deep, and never follows a link. What
// is not there is no error. It does not cross into mounts: those make it fail with unix.EBUSY.
func RemoveAllAt(dirfd int, name string) error {
	return RemoveLargeAt(context.Background(), dirfd, name, 1)
}

// RemoveTree is RemoveAllAt by a path whose directory is the caller's own.
func RemoveTree(path string) error {
	parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(parent)
	return RemoveAllAt(parent, filepath.Base(path))
}

// RemoveLargeAt is RemoveAllAt by that many goroutines, until ctx ends. On some file systems each file waits for the disk: ext4 that discards
// blocks at once, without a journal, takes a millisecond for each.
func RemoveLargeAt(ctx context.Context, dirfd int, name string, hands int) error {
	r := remover{stop: ctx.Done(), top: dirfd, deepest: max(maxOpen/hands, 1), helpers: make(chan struct{}, hands-1)}
	if err := r.remove(dirfd, name, 0); err != nil {
		return err
	}
	for n := 0; n < r.moved; n++ { // grows while it runs
		if err := r.remove(dirfd, r.movedName(n), 0); err != nil {
			return err
		}
	}
	return nil
}

type remover struct {
	stop    <-chan struct{}
	top     int
	deepest int
	helpers chan struct{} // holds one for each helper at work

	mu    sync.Mutex // guards moved
	moved int
}

func (r *remover) movedName(n int) string { return fmt.Sprintf(".removing-%d-%d", os.Getpid(), n) }

// remove removes name in dirfd, depth levels below where it began.
func (r *remover) remove(dirfd int, name string, depth int) error {
	switch err := unix.Unlinkat(dirfd, name, 0); err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM: // Linux says EISDIR, others may say EPERM
	default:
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if depth >= r.deepest {
		return r.moveUp(dirfd, name)
	}
	if err := r.empty(dirfd, name, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

func (r *remover) moveUp(dirfd int, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := unix.Renameat2(dirfd, name, r.top, r.movedName(r.moved), unix.RENAME_NOREPLACE)
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	r.moved++
	return nil
}

// empty removes everything in the directory name.
func (r *remover) empty(dirfd int, name string, depth int) error {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := retry(func() (int, error) { return unix.Openat2(dirfd, name, &how) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EXDEV):
		err = unix.EBUSY
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	var helpers errgroup.Group
	err = r.emptyOpen(dir, depth, &helpers)
	return errors.Join(err, helpers.Wait())
}

// emptyOpen removes everything in an open directory, by itself and by helpers.
func (r *remover) emptyOpen(dir *os.File, depth int, helpers *errgroup.Group) error {
	fd := int(dir.Fd())
	for {
		names, err := dir.Readdirnames(1024)
		for len(names) > 0 {
			some := names[:min(armful, len(names))]
			names = names[len(some):]
			if len(names) > 0 && r.help(helpers, fd, some, depth+1) {
				continue
			}
			if err := r.removeAll(fd, some, depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", dir.Name(), err)
		}
	}
}

// help has a helper remove files, if there is one free.
func (r *remover) help(helpers *errgroup.Group, dirfd int, names []string, depth int) bool {
	select {
	case r.helpers <- struct{}{}:
	default:
		return false
	}
	helpers.Go(func() error {
		defer func() { <-r.helpers }()
		return r.removeAll(dirfd, names, depth)
	})
	return true
}

func (r *remover) removeAll(dirfd int, names []string, depth int) error {
	for _, n := range names {
		select {
		case <-r.stop:
			return context.Canceled
		default:
		}
		if err := r.remove(dirfd, n, depth); err != nil {
			return err
		}
	}
	return nil
}
