package bootstrap

import (
	"archive/tar"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// regular unpacks a file. Its bytes are read while the path is no longer locked: should another package replace the file
// meanwhile, they go into a file without a name.
func (u *unpacker) regular(parent *dirHandle, base, at, name string, h *tar.Header, r io.Reader) error {
	fd := -1
	ours, err := u.t.claim(at, u.p, func(bool) error {
		const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		return over(parent.fd, base, func() (err error) {
			fd, err = unix.Openat(parent.fd, base, flags, uint32(h.Mode&0o777)) //nolint:gosec // masked
			return err
		})
	})
	if err != nil {
		return err
	}
	if !ours {
		return nil // the tar's reader passes over the bytes
	}
	defer unix.Close(fd)
	_, isConf := u.p.conffiles[name]
	summed := isConf || u.p.sums != nil
	if err := u.copy(fd, r, h.Size, summed); err != nil {
		return err
	}
	if summed {
		sum := hex.EncodeToString(u.sum.Sum(nil))
		if isConf {
			u.p.conffiles[name] = sum
		} else {
			u.p.sums[name] = sum
		}
	}
	return attributes(fd, parent, base, h)
}

// attributes are given to a file that is there.
func attributes(fd int, parent *dirHandle, base string, h *tar.Header) error {
	if h.Uid != 0 || h.Gid != 0 || parent.setgid {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Mode&0o7022 != 0 { // else no sensible umask has changed it
		if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil { //nolint:gosec // masked
			return err
		}
	}
	ts := timespec(h)
	err := unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.8
		err = unix.UtimesNanoAt(parent.fd, base, ts, unix.AT_SYMLINK_NOFOLLOW)
	}
	return err
}

func timespec(h *tar.Header) []unix.Timespec {
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	return []unix.Timespec{t, t}
}

// copy writes a file's bytes.
func (u *unpacker) copy(fd int, r io.Reader, size int64, summed bool) error {
	u.sum.Reset()
	for left := size; left > 0; {
		part := u.buf[:min(int64(len(u.buf)), left)]
		n, err := io.ReadFull(r, part)
		if err != nil {
			return broken(err)
		}
		if summed {
			_, _ = u.sum.Write(part)
		}
		for done := 0; done < n; {
			w, err := unix.Write(fd, part[done:n])
			if err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("write: %w", err)
			}
			done += max(w, 0)
		}
		left -= int64(n)
	}
	u.p.size += size
	return nil
}

// over makes a file in a directory, in place of one that is there. A directory stays.
func over(parent int, base string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := unix.Unlinkat(parent, base, 0); err != nil {
		if errors.Is(err, unix.EISDIR) {
			return fmt.Errorf("there is a directory of another package: %w", errdefs.ErrConflict)
		}
		return err
	}
	return make()
}

func (u *unpacker) symlink(parent *dirHandle, base, at string, h *tar.Header) error {
	_, err := u.t.claim(at, u.p, func(bool) error {
		was, err := sys.ReadlinkAt(parent.fd, base)
		if err == nil && was == h.Linkname {
			return nil
		}
		var st unix.Stat_t
		if unix.Fstatat(parent.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil // dpkg keeps a directory where a package has a link
		}
		if err := over(parent.fd, base, func() error { return unix.Symlinkat(h.Linkname, parent.fd, base) }); err != nil {
			return err
		}
		if h.Uid != 0 || h.Gid != 0 || parent.setgid {
			if err := unix.Fchownat(parent.fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
		}
		return unix.UtimesNanoAt(parent.fd, base, timespec(h), unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

// hardlink gives a file of this package a further name.
func (u *unpacker) hardlink(parent *dirHandle, base, at, name string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	from, err := u.t.place(target)
	if err != nil {
		return err
	}
	if len(u.dirs) > maxDirs-3 {
		u.close() // so that neither of the two is closed when the other one is opened
	}
	dir, last := path.Split(from)
	src, err := u.parent(path.Clean("/" + dir))
	if err != nil {
		return err
	}
	dir, _ = path.Split(at)
	if parent, err = u.parent(path.Clean("/" + dir)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(src.fd, last, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("link to /%s: %w", target, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("link to /%s, which is no file: %w", target, errdefs.ErrInvalidArgument)
	}
	if u.p.sums != nil && u.p.sums[target] != "" {
		u.p.sums[name] = u.p.sums[target]
	}
	if u.p.conffiles[name] == "" && u.p.conffiles[target] != "" {
		u.p.conffiles[name] = u.p.conffiles[target]
	}
	_, err = u.t.claim(at, u.p, func(bool) error {
		return over(parent.fd, base, func() error { return unix.Linkat(src.fd, last, parent.fd, base, 0) })
	})
	return err
}

func (u *unpacker) fifo(parent *dirHandle, base, at string, h *tar.Header) error {
	_, err := u.t.claim(at, u.p, func(bool) error {
		err := over(parent.fd, base, func() error {
			return unix.Mknodat(parent.fd, base, unix.S_IFIFO|uint32(h.Mode&0o777), 0) //nolint:gosec // masked
		})
		if err != nil {
			return err
		}
		return unix.Fchownat(parent.fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}
