package archive

import (
	"archive/tar"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// directory makes a directory, or takes the one that is there, and gives it its attributes.
func (u *unpacker) directory(hdr *tar.Header, p place, want Owner) error {
	m := mode(hdr)
	made, err := u.mkdir(p, m)
	if err != nil {
		return err
	}
	if !made || u.mustChown(p.parent, want) {
		if err := unix.Fchownat(p.parent.fd, p.base, want.UID, want.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	// mkdir(2) takes no setuid and setgid, and inherits the second.
	if !made || m&u.umask != 0 || m > 0o1777 || p.parent.setgid {
		if err := chmod(p, m); err != nil {
			return err
		}
	}
	if !made {
		u.dirs.forget(p.name)
	}
	u.times = append(u.times, dirTime{p.name, mtime(hdr)})
	return u.setXattrs(hdr, onPlace(p))
}

// mkdir reports whether it made the directory.
func (u *unpacker) mkdir(p place, mode uint32) (bool, error) {
	err := unix.Mkdirat(p.parent.fd, p.base, mode)
	if err != unix.EEXIST {
		return err == nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(p.parent.fd, p.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, nil
	}
	if u.o.NoOverwriteDirNonDir {
		return false, conflict("cannot overwrite non-directory %q with directory", p.name)
	}
	if err := u.remove(p, st.Mode); err != nil {
		return false, err
	}
	if err := unix.Mkdirat(p.parent.fd, p.base, mode); err != nil {
		return false, err
	}
	if u.o.Layer && sys.IsWhiteout(&st) {
		// What the whiteout hid must stay hidden below the directory that takes its place.
		return true, u.setOpaque(onPlace(p))
	}
	return true, nil
}

// finish sets the directories' times.
func (u *unpacker) finish() error {
	for _, d := range u.times {
		if err := u.setDirTime(d); err != nil {
			return &pathError{"unpack", d.path, err}
		}
	}
	return nil
}

func (u *unpacker) setDirTime(d dirTime) error {
	if d.path == "" {
		fd, err := sys.OpenatInRoot(u.root.Fd(), u.base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return setFDTime(fd, d.time)
	}
	dir, base := splitName(d.path)
	parent, err := u.parent(dir)
	if err != nil {
		return err
	}
	if u.replaced && !isDirAt(parent.fd, base) {
		return nil // removed, or replaced by a later entry
	}
	return setTime(parent.fd, base, d.time)
}

func isDirAt(dirfd int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
