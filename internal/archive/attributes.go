package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// identity is what the kernel gives to files that this process makes.
type identity struct{ uid, gid int }

func newIdentity() identity { return identity{os.Geteuid(), os.Getegid()} }

// mode is a header's permission bits with setuid, setgid and sticky.
func mode(hdr *tar.Header) uint32 { return uint32(hdr.Mode) & 0o7777 }

// owner is whom an entry shall belong to.
func (u *unpacker) owner(hdr *tar.Header) (Owner, error) {
	if u.o.Owner != nil {
		return *u.o.Owner, nil
	}
	o := Owner{hdr.Uid, hdr.Gid}
	if u.o.MapOwner != nil {
		return u.o.MapOwner(o)
	}
	return o, nil
}

// mustChown says whether a file made in parent belongs to someone else than it should.
func (u *unpacker) mustChown(parent *dirHandle, want Owner) bool {
	gid := u.self.gid
	if parent.setgid {
		gid = parent.gid
	}
	return want.UID != u.self.uid || want.GID != gid
}

// mtime is the entry's time of modification; the time of last access is left as it is.
func mtime(hdr *tar.Header) time.Time { return hdr.ModTime }

func timespecs(t time.Time) [2]unix.Timespec {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return [2]unix.Timespec{
		{Nsec: unix.UTIME_OMIT},
		{Sec: t.Unix(), Nsec: int64(t.Nanosecond())},
	}
}

func setTime(dirfd int, name string, t time.Time) error {
	ts := timespecs(t)
	if err := unix.UtimesNanoAt(dirfd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// setFDTime is futimens(3): utimensat(2) without a path.
func setFDTime(fd int, t time.Time) error {
	ts := timespecs(t)
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set time: %w", errno)
	}
	return nil
}

const xattrRecord = "SCHILY.xattr."

// setXattrs sets the header's extended attributes by set. What the filesystem or the kernel does not take is left out: an
// attribute less makes the file no less the file, and refusing would make images unusable on filesystems without them.
func (u *unpacker) setXattrs(hdr *tar.Header, set func(name string, value []byte) error) error {
	if len(hdr.PAXRecords) == 0 {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok || isOverlayXattr(name) && (u.o.Layer || u.o.NoOverlay) {
			continue
		}
		err := set(name, []byte(hdr.PAXRecords[key]))
		switch {
		case err == nil, errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM):
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
			return invalid(fmt.Errorf("set extended attribute %q: %w", name, err))
		default:
			return fmt.Errorf("set extended attribute %q: %w", name, err)
		}
	}
	return nil
}

// isOverlayXattr says whether the attribute is overlayfs's own: a layer that could set those would redirect directories
// of other layers.
func isOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// chmod sets the mode of p without following a link that somebody may have put in its place.
func chmod(p place, mode uint32) error {
	fd, err := unix.Openat(p.parent.fd, p.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return os.NewSyscallError("chmod", unix.Chmod(sys.FDPath(fd), mode))
}

// onFile sets attributes of an open file.
func onFile(fd int) func(string, []byte) error {
	return func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) }
}

// onPlace sets attributes of what is at p, itself a link or not.
func onPlace(p place) func(string, []byte) error {
	path := sys.FDPath(p.parent.fd) + "/" + p.base
	return func(name string, value []byte) error { return unix.Lsetxattr(path, name, value, 0) }
}
