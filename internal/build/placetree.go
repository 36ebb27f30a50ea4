package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// OutputTrees writes the trees below the destination, over what is there. Links in what is there are replaced, never
// followed.
func (p *Place) OutputTrees(ctx context.Context, export int, trees []Tree) error {
	path, ok := p.Outputs[export]
	if !ok || path == "-" {
		return &fault.Error{
			Code: "no-destination", What: "a local output needs a directory", Try: "--output type=local,dest=DIR",
			Class: errdefs.ErrInvalidArgument,
		}
	}
	w := treeWriter{ctx: ctx, owner: p.Owner}
	for _, t := range trees {
		dir := filepath.Join(path, t.Prefix)
		if err := w.makeRoot(path, dir); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		dst, err := sys.OpenRoot(dir)
		if err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		err = w.tree(dst, t)
		if err = errors.Join(err, dst.Close()); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}

// treeWriter copies trees out of layers into a user's directory.
type treeWriter struct {
	ctx   context.Context //nolint:containedctx // One call's.
	owner *Owner
	links map[[2]uint64]string // files with several names: where the first one is
	dst   *sys.Root
}

func (w *treeWriter) makeRoot(path, dir string) error {
	for _, d := range []string{path, dir} {
		if _, err := os.Stat(d); err == nil {
			continue
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if w.owner != nil {
			if err := os.Chown(d, w.owner.UID, w.owner.GID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *treeWriter) tree(dst *sys.Root, t Tree) error {
	w.links, w.dst = map[[2]uint64]string{}, dst
	if t.Root != nil {
		src, err := t.Root.OpenFD("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		err = w.dir(src, dst.Fd(), "")
		if err = errors.Join(err, unix.Close(src)); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(t.Files))
	for name := range t.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := w.file(dst.Fd(), filepath.Base(name), bytes.NewReader(t.Files[name]), &unix.Stat_t{Mode: unix.S_IFREG | 0o644}); err != nil {
			return err
		}
	}
	return nil
}

// dir copies what is in the directory src into dst. Both descriptors are directories; src is read to its end.
func (w *treeWriter) dir(src, dst int, path string) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	copied, err := unix.FcntlInt(uintptr(src), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	list := os.NewFile(uintptr(copied), path)
	names, err := list.Readdirnames(-1)
	if err = errors.Join(err, list.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if err := w.entry(src, dst, name, filepath.Join(path, name)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(path, name), err)
		}
	}
	return nil
}

func (w *treeWriter) entry(src, dst int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return w.subdir(src, dst, name, path, &st)
	case unix.S_IFREG:
		return w.regular(src, dst, name, path, &st)
	case unix.S_IFLNK:
		target, err := sys.ReadlinkAt(src, name)
		if err != nil {
			return err
		}
		if err := w.clear(dst, name); err != nil {
			return err
		}
		if err := unix.Symlinkat(target, dst, name); err != nil {
			return err
		}
		return w.finish(dst, name, &st)
	case unix.S_IFIFO:
		if err := w.clear(dst, name); err != nil {
			return err
		}
		if err := unix.Mknodat(dst, name, st.Mode, 0); err != nil {
			return err
		}
		return w.finish(dst, name, &st)
	}
	return nil // Devices and sockets are no use outside of a container.
}

func (w *treeWriter) subdir(src, dst int, name, path string, st *unix.Stat_t) error {
	from, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	into, err := unix.Openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if err := w.clear(dst, name); err != nil {
			return err
		}
		if err := unix.Mkdirat(dst, name, 0o755); err != nil {
			return err
		}
		if into, err = unix.Openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
	}
	err = w.dir(from, into, path)
	if err = errors.Join(err, unix.Close(into)); err != nil {
		return err
	}
	return w.finish(dst, name, st)
}

func (w *treeWriter) regular(src, dst int, name, path string, st *unix.Stat_t) error {
	if st.Nlink > 1 {
		id := [2]uint64{st.Dev, st.Ino}
		if first, ok := w.links[id]; ok {
			if err := w.clear(dst, name); err != nil {
				return err
			}
			return unix.Linkat(w.dst.Fd(), first, dst, name, 0)
		}
		w.links[id] = path
	}
	fd, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return w.file(dst, name, f, st)
}

// file writes a regular file.
func (w *treeWriter) file(dst int, name string, r io.Reader, st *unix.Stat_t) error {
	if err := w.clear(dst, name); err != nil {
		return err
	}
	fd, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return w.finish(dst, name, st)
}

// clear takes away what is in the way.
func (w *treeWriter) clear(dst int, name string) error { return sys.RemoveAllAt(dst, name) }

// finish sets owner, mode and time of what was written.
func (w *treeWriter) finish(dst int, name string, st *unix.Stat_t) error {
	if w.owner != nil {
		if err := unix.Fchownat(dst, name, w.owner.UID, w.owner.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		mode := st.Mode & 0o7777
		if w.owner != nil {
			mode &= 0o1777 // Set-uid for another user than the image meant would be another right.
		}
		if err := unix.Fchmodat(dst, name, mode, 0); err != nil {
			return err
		}
	}
	if st.Mtim == (unix.Timespec{}) {
		return nil
	}
	return unix.UtimesNanoAt(dst, name, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
