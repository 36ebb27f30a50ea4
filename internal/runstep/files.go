package runstep

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// files keeps small generated files by their content: most steps are shown the same ones.
type files struct {
	dir string

	mu   sync.Mutex // guards made
	made map[[sha256.Size]byte]string
}

func newFiles(dir string) *files { return &files{dir: dir, made: map[[sha256.Size]byte]string{}} }

// path returns a file with that content, which everybody may read and nobody may change.
func (f *files) path(content []byte) (string, error) {
	sum := sha256.Sum256(content)
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.made[sum]; ok {
		return p, nil
	}
	p := filepath.Join(f.dir, hex.EncodeToString(sum[:12]))
	tmp := p + ".new"
	err := os.WriteFile(tmp, content, 0o644) //nolint:gosec // programs in the step read it as any user
	if err == nil {
		err = os.Rename(tmp, p)
	}
	if err != nil {
		return "", fmt.Errorf("write file for build step: %w", err)
	}
	f.made[sum] = p
	return p, nil
}
