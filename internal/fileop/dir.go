package fileop

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// dir is an open directory of the tree. The descriptors are of the same directory in the writable layer and in what is
// below it; either may be missing, which is -1.
type dir struct {
	d      *dest
	parent *dir // released together with this one
	name   string
	fd     int
	lower  int
	st     unix.Stat_t // as the tree has it
	fresh  bool        // made by who uses it, so it was empty
	refs   atomic.Int32
	last   func() error // called before it is closed
}

// release gives the directory back; the last one closes it.
func (p *dir) release() {
	if p.refs.Add(-1) > 0 {
		return
	}
	if p.last != nil {
		if err := p.last(); err != nil {
			p.d.fail(err)
		}
	}
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
	if p.lower >= 0 {
		unix.Close(p.lower)
	}
	if p.parent != nil {
		p.parent.release()
	}
}

func (p *dir) hold() *dir {
	p.refs.Add(1)
	return p
}

// path is the directory's path for messages.
func (p *dir) path() string {
	if p.parent == nil {
		return "/"
	}
	return p.parent.at(p.name)
}

// at is the path of an entry for messages.
func (p *dir) at(name string) string {
	if p.parent == nil {
		return "/" + name
	}
	return p.path() + "/" + name
}

// entry is what a name is in a directory of the tree.
type entry struct {
	st unix.Stat_t
	// upper: it is in the writable layer; lower: it is below, and shows. A directory may be both.
	upper, lower bool
	// hidden: there is a whiteout in the writable layer, so nothing shows.
	hidden bool
}

func (e *entry) exists() bool { return e.upper || e.lower }

func (e *entry) isDir() bool { return e.exists() && e.st.Mode&unix.S_IFMT == unix.S_IFDIR }

func (e *entry) isLink() bool { return e.exists() && e.st.Mode&unix.S_IFMT == unix.S_IFLNK }

// lookup tells what name is.
func (p *dir) lookup(name string) (entry, error) {
	var e entry
	if p.fd >= 0 {
		err := unix.Fstatat(p.fd, name, &e.st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == nil && sys.IsWhiteout(&e.st):
			return entry{hidden: true}, nil
		case err == nil:
			e.upper = true
			if e.isDir() && p.lower >= 0 {
				return e, p.uncovered(name, &e)
			}
			return e, nil
		case err != unix.ENOENT:
			return e, &fs.PathError{Op: "stat", Path: p.at(name), Err: err}
		}
	}
	if p.lower < 0 {
		return e, nil
	}
	err := unix.Fstatat(p.lower, name, &e.st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return e, nil
	}
	if err != nil {
		return e, &fs.PathError{Op: "stat", Path: p.at(name), Err: err}
	}
	e.lower = true
	return e, nil
}

// uncovered finds out whether a directory of the writable layer lets one below show through.
func (p *dir) uncovered(name string, e *entry) error {
	var st unix.Stat_t
	err := unix.Fstatat(p.lower, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: p.at(name), Err: err}
	}
	opaque, err := sys.IsOpaque(sys.FDPath(p.fd)+"/"+name, p.d.prefix)
	e.lower = !opaque
	return err
}

// enter opens the directory name, which lookup has found.
func (p *dir) enter(name string, e *entry) (*dir, error) {
	sub := &dir{d: p.d, parent: p.hold(), name: name, fd: -1, lower: -1, st: e.st}
	sub.refs.Store(1)
	var err error
	if e.upper {
		sub.fd, err = openDir(p.fd, name)
	}
	if err == nil && e.lower {
		sub.lower, err = openDir(p.lower, name)
	}
	if err != nil {
		sub.release()
		return nil, &fs.PathError{Op: "open", Path: p.at(name), Err: err}
	}
	return sub, nil
}

func openDir(dirfd int, name string) (int, error) {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// ensure makes the directory in the writable layer, as a copy of the one below, if it is not there yet. As in overlayfs, that
// is no change of the directory above.
func (p *dir) ensure() error {
	if p.fd >= 0 {
		return nil
	}
	if err := p.parent.ensure(); err != nil {
		return err
	}
	var above unix.Stat_t
	if err := unix.Fstat(p.parent.fd, &above); err != nil {
		return &fs.PathError{Op: "stat", Path: p.parent.path(), Err: err}
	}
	if err := p.copyUp(); err != nil {
		return err
	}
	if err := setTimes(p.parent.fd, ".", above.Atim, above.Mtim); err != nil {
		return &fs.PathError{Op: "utimes", Path: p.parent.path(), Err: err}
	}
	return nil
}

func (p *dir) copyUp() error {
	if err := unix.Mkdirat(p.parent.fd, p.name, 0o700); err != nil {
		return &fs.PathError{Op: "mkdir", Path: p.path(), Err: err}
	}
	fd, err := openDir(p.parent.fd, p.name)
	if err != nil {
		return &fs.PathError{Op: "open", Path: p.path(), Err: err}
	}
	p.fd = fd
	if err := unix.Fchown(fd, int(p.st.Uid), int(p.st.Gid)); err != nil {
		return &fs.PathError{Op: "chown", Path: p.path(), Err: err}
	}
	if err := unix.Fchmod(fd, p.st.Mode&0o7777); err != nil {
		return &fs.PathError{Op: "chmod", Path: p.path(), Err: err}
	}
	if err := copyXattrs(sys.FDPath(p.lower)+"/.", sys.FDPath(fd)+"/."); err != nil {
		return fmt.Errorf("copy attributes of %s: %w", p.path(), err)
	}
	if err := setTimes(fd, ".", p.st.Atim, p.st.Mtim); err != nil {
		return &fs.PathError{Op: "utimes", Path: p.path(), Err: err}
	}
	return nil
}

// names lists what shows in the directory.
func (p *dir) names() ([]string, error) {
	seen := make(map[string]bool)
	var list []string
	for _, fd := range []int{p.fd, p.lower} {
		if fd < 0 {
			continue
		}
		some, err := sys.Names(fd)
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: p.path(), Err: err}
		}
		for _, name := range some {
			if seen[name] {
				continue
			}
			seen[name] = true
			e, err := p.lookup(name)
			if err != nil {
				return nil, err
			}
			if e.exists() {
				list = append(list, name)
			}
		}
	}
	return list, nil
}
