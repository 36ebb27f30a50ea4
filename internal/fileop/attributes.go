package fileop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// self is what the kernel gives to files that this process makes.
var self = owner{os.Geteuid(), os.Getegid()}

// inherits says whether what is made in the directory gets its group.
func (p *dir) inherits() bool { return p.st.Mode&unix.S_ISGID != 0 }

// setOwner gives something new in the directory its owner, if it has another one.
func (p *dir) setOwner(name string, who owner) error {
	if who == self && !p.inherits() {
		return nil
	}
	if err := unix.Fchownat(p.fd, name, who.uid, who.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "chown", Path: p.at(name), Err: err}
	}
	return nil
}

// setTimes sets times without following a link.
func setTimes(dirfd int, name string, atime, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(dirfd, name, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// timespec is the time that an action wants; nil if it wants none.
func timespec(ns int64) *unix.Timespec {
	if ns == -1 {
		return nil
	}
	ts := unix.NsecToTimespec(ns)
	return &ts
}

// copyXattrs copies the extended attributes that belong to the file. What the file system does not take is left out, as
// BuildKit leaves it out.
func copyXattrs(from, to string) error {
	names, err := sys.ListXattrs(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !sys.PortableXattr(name) {
			continue
		}
		value, err := sys.GetXattr(from, name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read extended attribute %q: %w", name, err)
		}
		err = unix.Lsetxattr(to, name, value, 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set extended attribute %q: %w", name, err)
		}
	}
	return nil
}

// setFileTimes is futimens(3): utimensat(2) without a path.
func setFileTimes(fd int, at unix.Timespec) error {
	ts := [2]unix.Timespec{at, at}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
