package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// place is where an entry goes: the last component of its name in an open directory.
type place struct {
	parent *dirHandle
	name   string // relative to the tar's root, cleaned
	base   string
}

// dirTime is a directory's time of modification: set last, because placing a file in it changes it.
type dirTime struct {
	path string
	time time.Time
}

// place makes the entry.
func (u *unpacker) place(hdr *tar.Header, p place) error {
	want, err := u.owner(hdr)
	if err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return u.directory(hdr, p, want)
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // old archives have TypeRegA
		return u.regular(hdr, p, want)
	case tar.TypeLink:
		return u.hardlink(hdr, p)
	case tar.TypeSymlink:
		err := u.create(p, func() error { return unix.Symlinkat(hdr.Linkname, p.parent.fd, p.base) })
		return u.node(hdr, p, want, err)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		err := u.create(p, func() error { return u.mknod(hdr, p) })
		return u.node(hdr, p, want, err)
	default:
		return invalid(fmt.Errorf("entry of unknown type %q", hdr.Typeflag))
	}
}

// create calls fn, which makes something new at p, and again once what is there has been removed.
func (u *unpacker) create(p place, fn func() error) error {
	err := fn()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := u.clear(p); err != nil {
		return err
	}
	return fn()
}

// clear removes what is at p so that something that is no directory can take its place.
func (u *unpacker) clear(p place) error {
	var st unix.Stat_t
	if err := unix.Fstatat(p.parent.fd, p.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir && u.o.NoOverwriteDirNonDir {
		return conflict("cannot overwrite directory %q with non-directory", p.name)
	}
	return u.remove(p, st.Mode)
}

func conflict(format, name string) error {
	return fmt.Errorf(format+": %w", name, errdefs.ErrInvalidArgument)
}

// remove removes what is at p, whose mode is known.
func (u *unpacker) remove(p place, mode uint32) error {
	kind := mode & unix.S_IFMT
	if kind != unix.S_IFDIR && kind != unix.S_IFLNK {
		return unix.Unlinkat(p.parent.fd, p.base, 0)
	}
	// The parent itself stays open: it is p's and cannot be below p.
	u.replaced = true
	err := sys.RemoveAllAt(p.parent.fd, p.base)
	u.dirs.flushBut(p.parent)
	return err
}

// node gives a link, device or FIFO its attributes; err is how making it went.
func (u *unpacker) node(hdr *tar.Header, p place, want Owner, err error) error {
	if err != nil {
		return err
	}
	if u.mustChown(p.parent, want) {
		if err := unix.Fchownat(p.parent.fd, p.base, want.UID, want.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if m := mode(hdr); hdr.Typeflag != tar.TypeSymlink && (m&u.umask != 0 || m > 0o777) {
		if err := chmod(p, m); err != nil {
			return err
		}
	}
	if err := u.setXattrs(hdr, onPlace(p)); err != nil {
		return err
	}
	return setTime(p.parent.fd, p.base, mtime(hdr))
}

func (u *unpacker) mknod(hdr *tar.Header, p place) error {
	m := mode(hdr)
	switch hdr.Typeflag {
	case tar.TypeFifo:
		return unix.Mknodat(p.parent.fd, p.base, unix.S_IFIFO|m, 0)
	case tar.TypeChar:
		m |= unix.S_IFCHR
	default:
		m |= unix.S_IFBLK
	}
	if hdr.Devmajor < 0 || hdr.Devminor < 0 || hdr.Devmajor >= 1<<12 || hdr.Devminor >= 1<<20 {
		return invalid(fmt.Errorf("device number %d:%d", hdr.Devmajor, hdr.Devminor))
	}
	dev := unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
	return unix.Mknodat(p.parent.fd, p.base, m, int(dev))
}

// hardlink links p to a file that was there before. The target's name is relative to the tar's root.
func (u *unpacker) hardlink(hdr *tar.Header, p place) error {
	target, err := clean(hdr.Linkname)
	if err != nil {
		return err
	}
	if target == p.name {
		return nil
	}
	dir, base := path.Split(target)
	if base == "" {
		return invalid(errors.New("hard link to the root"))
	}
	// Opening the target's directory may close p's in the cache.
	from, err := sys.OpenatInRoot(u.root.Fd(), u.base+"/"+dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, missing(err))
	}
	defer unix.Close(from)
	if same(from, base, p) {
		return nil
	}
	err = u.create(p, func() error { return unix.Linkat(from, base, p.parent.fd, p.base, 0) })
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, missing(err))
	}
	return nil
}

// missing makes a missing or linkless target the tar's fault.
func missing(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EPERM) {
		return invalid(err)
	}
	return err
}

// same says whether base in the directory from is the file at p already, by whatever name.
func same(from int, base string, p place) bool {
	var a, b unix.Stat_t
	if unix.Fstatat(p.parent.fd, p.base, &b, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return unix.Fstatat(from, base, &a, unix.AT_SYMLINK_NOFOLLOW) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}
