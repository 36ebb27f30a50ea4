package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// buffer is what one goroutine copies with; it is made when it is first needed.
type buffer struct{ b []byte }

func (b *buffer) bytes() []byte {
	if b.b == nil {
		b.b = make([]byte, 256<<10)
	}
	return b.b
}

// files copies plain files of one directory.
func (c *copier) files(j job, b *buffer) error {
	for _, n := range j.files {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		if err := c.file(n, j.from, j.to, n.Name, b); err != nil {
			return err
		}
	}
	return nil
}

// file copies one plain file, where nothing is.
func (c *copier) file(n *treesum.Node, from *origin, to *dir, name string, b *buffer) error {
	src, err := c.openFile(n, from)
	if src < 0 || err != nil {
		return err
	}
	defer unix.Close(src)
	who, mode := c.ownerOf(n), c.mode(n.Mode)
	first, chown := mode, who != self || to.inherits()
	if chown || mode > 0o777 {
		first = 0o600 // a file that is not yet its owner's, nor complete, must not be run with anybody's rights
	}
	access := unix.O_WRONLY
	if c.local && !n.Settled() {
		access = unix.O_RDWR // see confirm
	}
	dst, err := unix.Openat(to.fd, name, access|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, first)
	if err != nil {
		return &fs.PathError{Op: "create", Path: to.at(name), Err: err}
	}
	defer unix.Close(dst)
	if err := c.content(src, dst, n.Size, b); err != nil {
		return &fs.PathError{Op: "copy", Path: to.at(name), Err: err}
	}
	if err := c.confirm(c.ctx, n, from, src, dst); err != nil {
		return err
	}
	if chown {
		if err := unix.Fchown(dst, who.uid, who.gid); err != nil {
			return &fs.PathError{Op: "chown", Path: to.at(name), Err: err}
		}
	}
	if first != mode || mode&c.d.umask != 0 {
		if err := unix.Fchmod(dst, mode); err != nil {
			return &fs.PathError{Op: "chmod", Path: to.at(name), Err: err}
		}
	}
	var none [1]byte
	if size, err := unix.Flistxattr(src, none[:0]); err == nil && size > 0 {
		if err := copyXattrs(sys.FDPath(from.fd)+"/"+n.Name, sys.FDPath(to.fd)+"/"+name); err != nil {
			return fmt.Errorf("copy attributes of %s: %w", to.at(name), err)
		}
	}
	at := c.timeOf(n)
	if err := setFileTimes(dst, at); err != nil {
		return &fs.PathError{Op: "utimes", Path: to.at(name), Err: err}
	}
	return nil
}

// openFile opens a file to be copied; the descriptor is negative if it is gone. One that is not what it was when the tree
// was read is copied as it is now, and noted.
func (c *copier) openFile(n *treesum.Node, from *origin) (int, error) {
	const how = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	fd, err := unix.Openat(from.fd, n.Name, how|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Openat(from.fd, n.Name, how, 0)
	}
	if err != nil {
		return -1, c.lost(&fs.PathError{Op: "open", Path: "/" + n.Path(), Err: err})
	}
	if !c.local {
		return fd, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, &fs.PathError{Op: "stat", Path: "/" + n.Path(), Err: err}
	}
	if !n.Same(&st) {
		c.unstable.Store(true)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// confirm notes if what was read of a file in place, and is in the open copy, is not what the tree was digested with. Where the
// file's times cannot tell, the content does.
func (c *copier) confirm(ctx context.Context, n *treesum.Node, from *origin, src, copied int) error {
	if !c.local || c.unstable.Load() {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: "/" + n.Path(), Err: err}
	}
	same := n.Same(&st)
	if same && !n.Settled() {
		var err error
		if same, err = n.Holds(ctx, copied, sys.FDPath(from.fd)+"/"+n.Name); err != nil {
			return c.lost(&fs.PathError{Op: "read", Path: "/" + n.Path(), Err: err})
		}
	}
	if !same {
		c.unstable.Store(true)
	}
	return nil
}

// confirmLink is confirm for a further name of a file whose first name was copied: that one may have been digested at another time.
func (c *copier) confirmLink(n *treesum.Node, from *origin, to *dir, name string) error {
	if err := c.confirmName(n, from); err != nil || !c.local || n.Settled() {
		return err
	}
	fd, err := unix.Openat(to.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: to.at(name), Err: err}
	}
	defer unix.Close(fd)
	same, err := n.Holds(c.ctx, fd, sys.FDPath(from.fd)+"/"+n.Name)
	if err != nil {
		return c.lost(&fs.PathError{Op: "read", Path: "/" + n.Path(), Err: err})
	}
	if !same {
		c.unstable.Store(true)
	}
	return nil
}

// confirmName is confirm for what is no plain file, or is one that was copied under another name: its times tell enough.
func (c *copier) confirmName(n *treesum.Node, from *origin) error {
	if !c.local {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(from.fd, n.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return c.lost(&fs.PathError{Op: "stat", Path: "/" + n.Path(), Err: err})
	}
	if !n.Same(&st) {
		c.unstable.Store(true)
	}
	return nil
}

// cloneFrom is the size from which sharing blocks is tried.
const cloneFrom = 64 << 10

// content copies what a file holds: by sharing blocks where the file system can, and without the holes.
func (c *copier) content(src, dst int, size int64, b *buffer) error {
	if size == 0 && !c.local {
		return nil
	}
	if size >= cloneFrom && !c.noClone.Load() {
		if unix.IoctlFileClone(dst, src) == nil {
			return nil
		}
		c.noClone.Store(true)
	}
	if size >= cloneFrom {
		var st unix.Stat_t
		if err := unix.Fstat(src, &st); err == nil && st.Blocks*512 < st.Size {
			return copySparse(src, dst, st.Size, b.bytes())
		}
	}
	buf := b.bytes()
	for {
		n, err := unix.Read(src, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		if err := writeAll(dst, buf[:n]); err != nil {
			return err
		}
		if n < len(buf) && size < int64(len(buf)) && int64(n) >= size && !c.local {
			return nil // layers do not change, so that was the end
		}
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
	}
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EINTR {
			return err
		}
		data = data[max(n, 0):]
	}
	return nil
}

// copySparse copies the parts of a file that are not holes.
func copySparse(src, dst int, size int64, buf []byte) error {
	for off := int64(0); off < size; {
		start, err := unix.Seek(src, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // a hole up to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(src, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for off = start; off < end; {
			n, err := unix.Pread(src, buf[:min(int64(len(buf)), end-off)], off)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			if n == 0 {
				return unix.Ftruncate(dst, off) // it was cut off meanwhile
			}
			for done := 0; done < n; {
				m, err := unix.Pwrite(dst, buf[done:n], off+int64(done))
				if err != nil && err != unix.EINTR {
					return err
				}
				done += max(m, 0)
			}
			off += int64(n)
		}
	}
	return unix.Ftruncate(dst, size)
}

// linked copies a file that has several names: the second name that is copied becomes one of the first copy. Files that
// get another name come this way too.
func (c *copier) linked(n *treesum.Node, from *origin, to *dir, name string) error {
	id := inode{n.Dev, n.Ino}
	if first, ok := c.links[id]; ok && n.Nlink > 1 {
		if err := unix.Linkat(c.d.upper.Fd(), first, to.fd, name, 0); err == nil {
			return c.confirmLink(n, from, to, name)
		} else if !errors.Is(err, unix.EMLINK) {
			return &fs.PathError{Op: "link", Path: to.at(name), Err: err}
		}
	}
	if err := c.file(n, from, to, name, new(buffer)); err != nil {
		return err
	}
	if n.Nlink > 1 {
		var st unix.Stat_t
		if unix.Fstatat(to.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			c.links[id] = to.at(name)[1:]
		}
	}
	return nil
}

// link copies a symbolic link.
func (c *copier) link(n *treesum.Node, from *origin, to *dir, name string) error {
	target, err := sys.ReadlinkAt(from.fd, n.Name)
	if err != nil {
		return c.lost(&fs.PathError{Op: "readlink", Path: "/" + n.Path(), Err: err})
	}
	if err := unix.Symlinkat(target, to.fd, name); err != nil {
		return &fs.PathError{Op: "symlink", Path: to.at(name), Err: err}
	}
	return c.special(n, from, to, name)
}

// node copies a device or FIFO.
func (c *copier) node(n *treesum.Node, from *origin, to *dir, name string) error {
	if err := unix.Mknodat(to.fd, name, n.Mode, int(n.Rdev)); err != nil {
		return &fs.PathError{Op: "mknod", Path: to.at(name), Err: err}
	}
	fd, err := unix.Openat(to.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: to.at(name), Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Chmod(sys.FDPath(fd), c.mode(n.Mode)); err != nil {
		return &fs.PathError{Op: "chmod", Path: to.at(name), Err: err}
	}
	return c.special(n, from, to, name)
}

// special gives what is no plain file its owner, attributes and time.
func (c *copier) special(n *treesum.Node, from *origin, to *dir, name string) error {
	if err := to.setOwner(name, c.ownerOf(n)); err != nil {
		return err
	}
	if err := copyXattrs(sys.FDPath(from.fd)+"/"+n.Name, sys.FDPath(to.fd)+"/"+name); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("copy attributes of %s: %w", to.at(name), err)
	}
	at := c.timeOf(n)
	if err := setTimes(to.fd, name, at, at); err != nil {
		return &fs.PathError{Op: "utimes", Path: to.at(name), Err: err}
	}
	return c.confirmName(n, from)
}
