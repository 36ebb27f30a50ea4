package buildkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// trees are the directories that clients' files are received into. One is kept for each directory that a client names by
// the same key again, so that only what has changed is sent; a further build that comes while it is in use gets another.
type trees struct {
	dir string

	mu   sync.Mutex // guards busy
	busy map[string]bool
}

// tree is a directory that one build has to itself.
type tree struct {
	trees *trees
	name  string
	dir   string
	// kept says that it stays for the next build.
	kept bool
}

// claim finds a directory for the key, or makes one. An empty key makes one that nobody will find again.
func (t *trees) claim(key string) (*tree, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy == nil {
		t.busy = map[string]bool{}
		if err := t.dropUnnamed(); err != nil {
			return nil, err
		}
	}
	base := "unnamed"
	if key != "" {
		sum := sha256.Sum256([]byte(key))
		base = hex.EncodeToString(sum[:16])
	}
	for i := 0; ; i++ {
		name := base
		if i > 0 {
			name += "-" + strconv.Itoa(i)
		}
		if t.busy[name] {
			continue
		}
		dir := filepath.Join(t.dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("directory for a client's files: %w", err)
		}
		t.busy[name] = true
		return &tree{trees: t, name: name, dir: dir, kept: key != ""}, nil
	}
}

// dropUnnamed removes what builds left that were under way when the daemon ended. The caller holds mu.
func (t *trees) dropUnnamed() error {
	left, err := filepath.Glob(filepath.Join(t.dir, "unnamed*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return fmt.Errorf("remove clients' files of an earlier daemon: %w", err)
	}
	return nil
}

// release gives the directory back.
func (t *tree) release() error {
	var err error
	if !t.kept {
		err = os.RemoveAll(t.dir)
	}
	t.trees.mu.Lock()
	defer t.trees.mu.Unlock()
	delete(t.trees.busy, t.name)
	return err
}

// shared is one receipt of a directory that several steps of a build use.
type shared struct {
	once sync.Once
	tree *tree
	err  error
	uses int // guarded by the session's mutex
}

// Prune removes the directories that no build uses, and says how many bytes they held.
func (s *Server) Prune(ctx context.Context) (int64, error) {
	t := &s.trees
	t.mu.Lock()
	defer t.mu.Unlock()
	entries, err := os.ReadDir(t.dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("clients' files: %w", err)
	}
	var freed int64
	for _, e := range entries {
		if t.busy[e.Name()] || ctx.Err() != nil {
			continue
		}
		dir := filepath.Join(t.dir, e.Name())
		freed += sizeOf(dir)
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return freed, errors.Join(err, ctx.Err())
}

// Usage is how many bytes the kept directories hold.
func (s *Server) Usage() int64 { return sizeOf(s.trees.dir) }

// sizeOf is what the files below a directory take. What vanishes meanwhile counts nothing.
func sizeOf(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // see above
		}
		if fi, err := d.Info(); err == nil {
			sum += fi.Size()
		}
		return nil
	})
	return sum
}
