package volume

import (
	"context"
	"fmt"
	"os"

	"github.com/kistdev/kist/internal/sys"
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
	n, err := sys.Occupied(context.Background(), root.FS())
	if err != nil {
		return 0, fmt.Errorf("size of volume %s: %w", name, err)
	}
	return n, nil
}
