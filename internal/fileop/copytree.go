package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync/atomic"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// copier copies files and trees into a tree. One goroutine goes through the directories; it makes directories, and all
// that is no plain file. Plain files are copied by others, in batches of one directory.
type copier struct {
	d     *dest
	sel   *treesum.Selected
	op    *pb.FileActionCopy
	who   *owner // nil: files keep theirs
	local bool
	time  *unix.Timespec      // nil: files keep theirs
	mode  func(uint32) uint32 // permission bits by the source's mode
	// parents is the mode of directories that are made on the way.
	parents uint32
	// changes, when set, are all that is copied of a directory.
	changes *treesum.Changes

	unstable atomic.Bool // something changed while it was read
	noClone  atomic.Bool // the file system cannot share blocks
	links    map[inode]string
	pending  []*treesum.Node // of the directory that is gone through

	ctx   context.Context //nolint:containedctx // lives as long as the one copy that made it
	group *errgroup.Group
	work  chan job
}

// inode tells files apart.
type inode struct{ dev, ino uint64 }

// origin is an open directory that is copied from.
type origin struct {
	fd   int
	refs atomic.Int32
}

func newOrigin(fd int) *origin {
	o := &origin{fd: fd}
	o.refs.Store(1)
	return o
}

func (o *origin) release() {
	if o.refs.Add(-1) == 0 {
		unix.Close(o.fd)
	}
}

// job is plain files of one directory.
type job struct {
	from  *origin
	to    *dir
	files []*treesum.Node
}

// jobSize is how many files are one job; fewer share the work better, more share directories better.
const jobSize = 32

func (c *copier) start(ctx context.Context) {
	c.group, c.ctx = errgroup.WithContext(ctx)
	c.work, c.links, c.pending = nil, make(map[inode]string), nil
}

// submit has files copied: here, as long as there are few, by others once there are more.
func (c *copier) submit(j job, more bool) error {
	if c.work == nil && more {
		work := make(chan job, 2*runtime.GOMAXPROCS(0))
		c.work = work
		for range runtime.GOMAXPROCS(0) {
			// A worker may come to run only when all is done and c.work is gone.
			c.group.Go(func() error { return c.worker(work) })
		}
	}
	if c.work == nil {
		return c.files(j, new(buffer))
	}
	j.from.refs.Add(1)
	j.to.hold()
	select {
	case c.work <- j:
		return nil
	case <-c.ctx.Done():
		j.from.release()
		j.to.release()
		return context.Cause(c.ctx)
	}
}

func (c *copier) worker(work <-chan job) error {
	var err error
	b := new(buffer)
	for j := range work {
		if err == nil {
			err = c.files(j, b)
		}
		j.from.release()
		j.to.release()
	}
	return err
}

func (c *copier) wait() error {
	if c.work != nil {
		close(c.work)
		c.work = nil
	}
	return c.group.Wait()
}

// flush submits the files of the directory that are waiting.
func (c *copier) flush(from *origin, to *dir) error {
	files := c.pending
	c.pending = nil
	if len(files) == 0 {
		return nil
	}
	return c.submit(job{from, to, files}, c.work != nil)
}

// lost takes what vanished from a directory in place while it was copied for never having been there.
func (c *copier) lost(err error) error {
	gone := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
	if !c.local || !gone {
		return err
	}
	c.unstable.Store(true)
	return nil
}

// directory copies a directory to name in p. Its descriptor is opened from dirfd, or from the root if that is negative.
func (c *copier) directory(n *treesum.Node, dirfd int, p *dir, name string, nested bool) error {
	e, err := p.lookup(name)
	if err != nil {
		return err
	}
	if e.exists() && !e.isDir() {
		if !c.op.AlwaysReplaceExistingDestPaths {
			return fmt.Errorf("cannot copy to non-directory: %s: %w", p.at(name), unix.ENOTDIR)
		}
		if err := p.delete(name, &e); err != nil {
			return err
		}
		if e, err = p.lookup(name); err != nil {
			return err
		}
	}
	created := !e.exists()
	var sub *dir
	if created {
		sub, err = p.mkdir(name, &e, newDir{mode: 0o700})
	} else {
		sub, err = p.enter(name, &e)
	}
	if err != nil {
		return err
	}
	if !nested || dirfd < 0 {
		return c.into(n, sub, created, nested)
	}
	fd, err := unix.Openat(dirfd, n.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		sub.release()
		return c.lost(&fs.PathError{Op: "open", Path: n.Path(), Err: err})
	}
	return c.contents(n, newOrigin(fd), sub, created, nested)
}

// into copies what is in a directory that is not open yet.
func (c *copier) into(n *treesum.Node, to *dir, created, nested bool) error {
	fd, err := c.sel.Open(n)
	if err != nil {
		to.release()
		return c.lost(err)
	}
	return c.contents(n, newOrigin(fd), to, created, nested)
}

// contents copies what is in a directory. When the last of its files is there, the directory gets its attributes: those of
// the source if it is new or lies below another copied one, and the time of the source in any case.
func (c *copier) contents(n *treesum.Node, from *origin, to *dir, created, nested bool) error {
	defer from.release()
	from.refs.Add(1)
	to.last = func() error {
		defer from.release()
		return c.dress(n, from, to, created || nested, created)
	}
	defer to.release()
	outer := c.pending
	c.pending = nil
	for _, k := range c.sel.Kids(n) {
		if c.changes != nil && !c.changes.Has(k) {
			continue
		}
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		if k.Gone() {
			c.unstable.Store(true)
			continue
		}
		var err error
		if k.IsDir() {
			err = c.directory(k, from.fd, to, k.Name, true)
		} else {
			err = c.entry(k, from, to, k.Name)
		}
		if err != nil {
			return err
		}
	}
	err := c.flush(from, to)
	c.pending = outer
	return err
}

// dress gives a copied directory its attributes.
func (c *copier) dress(n *treesum.Node, from *origin, to *dir, all, created bool) error {
	if err := to.ensure(); err != nil {
		return err
	}
	if all {
		if c.local {
			same, err := n.SameDirectory(from.fd)
			if err != nil {
				return &fs.PathError{Op: "stat", Path: "/" + n.Path(), Err: err}
			}
			if !same {
				c.unstable.Store(true)
			}
		}
		if !c.sel.Partial(n) || created {
			if err := unix.Fchown(to.fd, c.ownerOf(n).uid, c.ownerOf(n).gid); err != nil {
				return &fs.PathError{Op: "chown", Path: to.path(), Err: err}
			}
			if err := copyXattrs(sys.FDPath(from.fd)+"/.", sys.FDPath(to.fd)+"/."); err != nil {
				return fmt.Errorf("copy attributes of %s: %w", to.path(), err)
			}
		}
		if err := unix.Fchmod(to.fd, c.mode(n.Mode)); err != nil {
			return &fs.PathError{Op: "chmod", Path: to.path(), Err: err}
		}
	}
	at := c.timeOf(n)
	if err := setTimes(to.fd, ".", at, at); err != nil {
		return &fs.PathError{Op: "utimes", Path: to.path(), Err: err}
	}
	return nil
}

// ownerOf is whom the copy of a file belongs to.
func (c *copier) ownerOf(n *treesum.Node) owner {
	switch {
	case c.who != nil:
		return *c.who
	case c.local:
		return owner{}
	}
	return owner{int(n.UID), int(n.GID)}
}

func (c *copier) timeOf(n *treesum.Node) unix.Timespec {
	if c.time != nil {
		return *c.time
	}
	return unix.NsecToTimespec(n.Mtime)
}

// entry copies something that is no directory to name in the directory to. Plain files wait for company.
func (c *copier) entry(n *treesum.Node, from *origin, to *dir, name string) error {
	if !to.fresh {
		if err := c.makeRoom(to, name); err != nil {
			return err
		}
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if n.Nlink > 1 || name != n.Name {
			return c.linked(n, from, to, name)
		}
		c.pending = append(c.pending, n)
		if len(c.pending) < jobSize {
			return nil
		}
		files := c.pending
		c.pending = nil
		return c.submit(job{from, to, files}, true)
	case unix.S_IFLNK:
		return c.link(n, from, to, name)
	}
	return c.node(n, from, to, name)
}

// makeRoom removes what is in the way of a file.
func (c *copier) makeRoom(to *dir, name string) error {
	e, err := to.lookup(name)
	if err != nil {
		return err
	}
	if e.isDir() {
		if !c.op.AlwaysReplaceExistingDestPaths {
			return fmt.Errorf("cannot replace to directory %s with file: %w", to.at(name), unix.EISDIR)
		}
		if err := to.delete(name, &e); err != nil {
			return err
		}
		if e, err = to.lookup(name); err != nil {
			return err
		}
	}
	return to.uncover(name, &e)
}
