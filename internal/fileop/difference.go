package fileop

import (
	"bytes"
	"context"
	"errors"
	"io/fs"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// difference changes a tree so that it is the same as what the layers are: what it lacks is copied, what is too much is
// removed.
func (o *Ops) difference(ctx context.Context, d *dest, layers []digest.Digest) (err error) {
	v, err := o.look(ctx, Source{Layers: layers})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	sel, err := v.tree.Select(ctx, treesum.Selection{Path: "/"})
	if err != nil {
		return err
	}
	op := &pb.FileActionCopy{Mode: -1, Timestamp: -1, AlwaysReplaceExistingDestPaths: true}
	cp, err := newCopier(d, sel, op, nil, false)
	if err != nil {
		return err
	}
	cp.start(ctx)
	err = cp.differ(sel.Matches[0].Node, d.top)
	return errors.Join(err, cp.wait())
}

// differ makes a directory equal to a node of another tree.
func (c *copier) differ(n *treesum.Node, to *dir) error {
	fd, err := c.sel.Open(n)
	if err != nil {
		return err
	}
	from := newOrigin(fd)
	defer from.release()
	kids := c.sel.Kids(n)
	wanted := make(map[string]bool, len(kids))
	for _, k := range kids {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		wanted[k.Name] = true
		if err := c.differEntry(k, from, to); err != nil {
			return err
		}
	}
	names, err := to.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if wanted[name] {
			continue
		}
		e, err := to.lookup(name)
		if err == nil {
			err = to.delete(name, &e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) differEntry(n *treesum.Node, from *origin, to *dir) error {
	e, err := to.lookup(n.Name)
	if err != nil {
		return err
	}
	if !n.IsDir() {
		same, err := c.same(n, from, to, &e)
		if same || err != nil {
			return err
		}
		if err := c.entry(n, from, to, n.Name); err != nil {
			return err
		}
		return c.flush(from, to)
	}
	if !e.isDir() {
		return c.directory(n, from.fd, to, n.Name, true)
	}
	sub, err := to.enter(n.Name, &e)
	if err != nil {
		return err
	}
	defer sub.release()
	if err := c.differ(n, sub); err != nil {
		return err
	}
	if n.Mode == e.st.Mode && n.UID == e.st.Uid && n.GID == e.st.Gid && n.Mtime == unix.TimespecToNsec(e.st.Mtim) {
		return nil
	}
	fd, err := c.sel.Open(n)
	if err != nil {
		return err
	}
	dir := newOrigin(fd)
	defer dir.release()
	return c.dress(n, dir, sub, true, true)
}

// same says whether a file is what the other tree has in its place.
func (c *copier) same(n *treesum.Node, from *origin, to *dir, e *entry) (bool, error) {
	if !e.lower || e.upper || n.Mode != e.st.Mode || n.UID != e.st.Uid || n.GID != e.st.Gid || n.Rdev != e.st.Rdev {
		return false, nil
	}
	if n.Size != e.st.Size || n.Mtime != unix.TimespecToNsec(e.st.Mtim) {
		return false, nil
	}
	if n.Ino == e.st.Ino && n.Ctime == unix.TimespecToNsec(e.st.Ctim) {
		return true, nil // one file of one layer that both stand on
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		a, err := sys.ReadlinkAt(from.fd, n.Name)
		if err != nil {
			return false, err
		}
		b, err := sys.ReadlinkAt(to.lower, n.Name)
		return a == b, err
	case unix.S_IFREG:
		return sameContent(from.fd, to.lower, n.Name)
	}
	return true, nil
}

func sameContent(a, b int, name string) (bool, error) {
	const how = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	x, err := unix.Openat(a, name, how, 0)
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(x)
	y, err := unix.Openat(b, name, how, 0)
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(y)
	p, q := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := unix.Pread(x, p, off)
		if err != nil {
			return false, err
		}
		for m := 0; m < n; {
			k, err := unix.Pread(y, q[m:n], off+int64(m))
			if err != nil || k == 0 {
				return false, err
			}
			m += k
		}
		if n == 0 {
			return true, nil
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return false, nil
		}
		off += int64(n)
	}
}
