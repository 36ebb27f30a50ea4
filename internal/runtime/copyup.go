package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// copyUp fills a tmpfs, which is not attached yet, with what lies where it will be mounted. The child waits.
func (ch *child) copyUp(a *assist) error {
	root, err := ch.rootFD()
	if err != nil {
		return err
	}
	if root != ch.root {
		defer unix.Close(root)
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: insideRoot}
	from, err := unix.Openat2(root, a.path, &how)
	if err != nil {
		return fmt.Errorf("copy %s into its tmpfs: %w", a.path, err)
	}
	defer unix.Close(from)
	to, err := unix.Open(fmt.Sprintf("/proc/%d/fd/%d", ch.pid, ch.im.fd(a.fd)), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open tmpfs for %s: %w", a.path, err)
	}
	defer unix.Close(to)
	if err := (copier{}).dir(from, to); err != nil {
		return fmt.Errorf("copy %s into its tmpfs: %w", a.path, err)
	}
	return nil
}

// copier copies trees by descriptors: no path of the hostile tree is ever resolved as a whole.
type copier struct{ depth int }

// maxDepth bounds the descriptors that are open at a time.
const maxDepth = 256

func (c copier) dir(from, to int) error {
	if c.depth++; c.depth > maxDepth {
		return unix.ELOOP
	}
	names, err := sys.Names(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := c.entry(from, to, n); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}

func (c copier) entry(from, to int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.subdir(from, to, name)
	case unix.S_IFREG:
		err = c.file(from, to, name)
	case unix.S_IFLNK:
		err = c.link(from, to, name)
	default:
		err = unix.Mknodat(to, name, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(to, name, times, unix.AT_SYMLINK_NOFOLLOW)
}

func (c copier) subdir(from, to int, name string) error {
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	sub, err := unix.Openat(from, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	made, err := unix.Openat(to, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(made)
	return c.dir(sub, made)
}

func (c copier) file(from, to int, name string) error {
	in, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	src := os.NewFile(uintptr(in), name)
	defer src.Close()
	out, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(out), name)
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return copyXattrs(in, out)
}

// copyXattrs copies what a tmpfs can hold: file capabilities and labels, and user attributes on newer kernels.
func copyXattrs(in, out int) error {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(in, list)
	if err != nil || n == 0 {
		return nil // A filesystem without attributes.
	}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		size, err := unix.Fgetxattr(in, name, value)
		if err != nil {
			continue
		}
		if err := unix.Fsetxattr(out, name, value[:size], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("attribute %s: %w", path.Base(name), err)
		}
	}
	return nil
}

func (c copier) link(from, to int, name string) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(from, name, buf)
	if err != nil {
		return err
	}
	return unix.Symlinkat(string(buf[:n]), to, name)
}
