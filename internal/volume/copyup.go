package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/sys"
)

// CopyUp copies what an image has at path into a fresh volume, for the container user: content, owners, modes, times,
// attributes, and the owner and mode of the directory itself. It is all there or nothing is, except in volumes that are
// mounted or limited, which are filled in place. An image that has nothing at path is no error; one that has something
// other than a directory is. A volume that is not empty is left as it is.
func (s *Store) CopyUp(ctx context.Context, name, user string, from *sys.Root, path string) (err error) {
	st, err := from.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("copy %s into volume %s: %w", path, name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("cannot mount volume over existing file, file exists %s: %w", path, errdefs.ErrInvalidArgument)
	}
	dir, release, err := s.enter(ctx, name, "copy-up "+user)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if empty, err := isEmpty(dir); err != nil || !empty {
		return err
	}
	if s.usedByOthers(name, user) {
		return nil // it is theirs by now
	}
	err = s.fill(name, user, dir, func(dir string) error { return copyInto(ctx, from, path, dir, &st) })
	if errdefs.IsConflict(err) {
		return nil // another container was first: the volume is not fresh any more
	}
	if err != nil {
		return fmt.Errorf("copy %s into volume %s: %w", path, name, err)
	}
	return nil
}

// enter mounts a volume, if it is one to be mounted, until release.
func (s *Store) enter(ctx context.Context, name, why string) (dir string, release func() error, err error) {
	why += momentMark + randomName()[:16]
	if dir, err = s.Mount(ctx, name, why); err != nil {
		return "", nil, err
	}
	return dir, func() error { return s.Unmount(why) }, nil
}

// momentMark is in the word for a user of Mount that is no container but something that will soon be over.
const momentMark = " "

func isMoment(user string) bool { return strings.Contains(user, momentMark) }

func isEmpty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	return len(names) == 0, nil
}

// fill has an empty volume filled: aside, and put in its place by a rename, which works only while that is empty. A
// directory that somebody may have mounted, or that is more than a directory, is filled where it is.
func (s *Store) fill(name, user, dir string, put func(dir string) error) error {
	s.mu.Lock()
	e, err := s.get(name)
	direct := err == nil && (mounted(e.Options) || e.Project != 0)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if direct || s.usedByOthers(name, user) {
		return put(dir)
	}
	tmp, err := os.MkdirTemp(s.path(name), copyPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = sys.RemoveTree(tmp) }()
	if err := errors.Join(os.Chmod(tmp, 0o755), put(tmp)); err != nil { //nolint:gosec // as any volume's directory
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range e.uses {
		if other != user {
			return fmt.Errorf("container %.12s began to use it: %w", other, errdefs.ErrConflict)
		}
	}
	if err = unix.Rename(tmp, filepath.Join(s.path(name), dataDir)); errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("somebody else put files into it: %w", errdefs.ErrConflict) // os.Rename refuses any directory as the target
	}
	return err
}

func (s *Store) usedByOthers(name, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.volumes[name]
	if e == nil {
		return false
	}
	for other := range e.uses {
		if other != user {
			return true
		}
	}
	return false
}

func copyInto(ctx context.Context, from *sys.Root, path, dir string, st *unix.Stat_t) error {
	to, err := sys.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = errors.Join(archive.Copy(ctx, from, path, to, "/"), to.Close())
	if err != nil {
		return err
	}
	// The order matters: a change of the owner clears the mode's special bits.
	return errors.Join(unix.Lchown(dir, int(st.Uid), int(st.Gid)), unix.Chmod(dir, st.Mode&0o7777))
}
