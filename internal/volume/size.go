package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Size is the bytes a volume occupies: blocks, not lengths, a file with several links once. Files that come and go
// meanwhile are counted or not.
func (s *Store) Size(name string) (int64, error) {
	s.mu.Lock()
	e, err := s.get(name)
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if mounted(e.Options) { // its bytes are elsewhere
		return 0, nil
	}
	// A container that writes to the volume may swap directories for symbolic links under the walk.
	root, err := os.OpenRoot(s.data(name))
	if err != nil {
		return 0, fmt.Errorf("size of volume %s: %w", name, err)
	}
	defer root.Close()
	n, err := occupied(root.FS())
	if err != nil {
		return 0, fmt.Errorf("size of volume %s: %w", name, err)
	}
	return n, nil
}

func occupied(tree fs.FS) (int64, error) {
	type file struct{ dev, ino uint64 }
	const blockSize = 512
	counted := map[file]bool{}
	var total int64
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return gone(err)
		}
		info, err := d.Info()
		if err != nil {
			return gone(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			f := file{st.Dev, st.Ino}
			if counted[f] {
				return nil
			}
			counted[f] = true
		}
		total += st.Blocks * blockSize
		return nil
	})
	return total, err
}

// gone forgives what vanished between being listed and being looked at, or became something else.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil
	}
	return err
}
