package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/sys"
)

// CopyUp copies what an image has at path into a fresh volume: content, owners, modes, times, attributes, and the owner
// and mode of the directory itself. It is all there or nothing is. An image that has nothing at path is no error; one
// that has something other than a directory is.
func (s *Store) CopyUp(ctx context.Context, name string, from *sys.Root, path string) error {
	s.mu.Lock()
	_, err := s.get(name)
	s.mu.Unlock()
	if err != nil {
		return err
	}
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
	if err := s.copyDir(ctx, name, from, path, &st); err != nil {
		return fmt.Errorf("copy %s into volume %s: %w", path, name, err)
	}
	return nil
}

// copyDir fills a directory beside the volume's own and puts it in its place, which a rename does only while that one is
// empty.
func (s *Store) copyDir(ctx context.Context, name string, from *sys.Root, path string, st *unix.Stat_t) error {
	tmp, err := os.MkdirTemp(s.path(name), copyPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = removeTree(tmp) }()
	if err := copyInto(ctx, from, path, tmp); err != nil {
		return err
	}
	// The order matters: a change of the owner clears the mode's special bits.
	if err := errors.Join(unix.Lchown(tmp, int(st.Uid), int(st.Gid)), unix.Chmod(tmp, st.Mode&0o7777)); err != nil {
		return err
	}
	err = unix.Rename(tmp, filepath.Join(s.path(name), dataDir)) // os.Rename refuses any directory as the target
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil // another container was first: the volume is not fresh any more
	}
	return err
}

func copyInto(ctx context.Context, from *sys.Root, path, dir string) error {
	to, err := sys.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(archive.Copy(ctx, from, path, to, "/"), to.Close())
}
