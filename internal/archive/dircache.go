package archive

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// dirHandle is an open directory in which entries are placed.
type dirHandle struct {
	path   string
	fd     int // O_PATH
	gid    int
	setgid bool // what is made in it gets its group
	used   uint64
}

// dirCache keeps the directories used last open, so that placing a file needs no walk from the root. Its keys are paths
// as the tar wrote them: whoever removes a directory or a link from the tree must flush it, because a path could then
// lead elsewhere.
type dirCache struct {
	handles map[string]*dirHandle
	clock   uint64
}

const dirCacheSize = 128

func newDirCache() *dirCache { return &dirCache{handles: make(map[string]*dirHandle)} }

func (c *dirCache) get(path string) *dirHandle {
	h := c.handles[path]
	if h != nil {
		c.clock++
		h.used = c.clock
	}
	return h
}

// put adds a directory; the one not used for longest makes room.
func (c *dirCache) put(h *dirHandle) {
	if len(c.handles) >= dirCacheSize {
		oldest := h
		oldest.used = c.clock + 1
		for _, o := range c.handles {
			if o.used < oldest.used {
				oldest = o
			}
		}
		c.forget(oldest.path)
	}
	c.clock++
	h.used = c.clock
	c.handles[h.path] = h
}

// forget drops one directory, which may have changed.
func (c *dirCache) forget(path string) {
	if h := c.handles[path]; h != nil {
		delete(c.handles, path)
		unix.Close(h.fd)
	}
}

func (c *dirCache) flush() { c.flushBut(nil) }

// flushBut flushes all but one.
func (c *dirCache) flushBut(keep *dirHandle) {
	for path, h := range c.handles {
		if h != keep {
			c.forget(path)
		}
	}
}

// parent opens the directory dir, relative to the tar's root. Missing directories are made, as every unpacker of layers
// does: a layer need not tell the directories of the layers below.
func (u *unpacker) parent(dir string) (*dirHandle, error) {
	if h := u.dirs.get(dir); h != nil {
		return h, nil
	}
	fd, err := u.openDir(dir)
	if errors.Is(err, unix.ENOTDIR) && u.o.Layer {
		if err := u.uncover(dir); err != nil {
			return nil, err
		}
		fd, err = u.openDir(dir)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	h := &dirHandle{path: dir, fd: fd, gid: int(st.Gid), setgid: st.Mode&unix.S_ISGID != 0}
	u.dirs.put(h)
	return h, nil
}

// openDir opens dir and makes it if it is missing.
func (u *unpacker) openDir(dir string) (int, error) {
	fd, err := sys.OpenatInRoot(u.root.Fd(), u.base+"/"+dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return u.makeParents(dir)
	}
	return fd, err
}

func (u *unpacker) makeParents(dir string) (int, error) {
	f, err := u.root.MkdirAll(u.base+"/"+dir, 0o755)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}
