package runstep

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// CacheInfo is a cache as people see it.
type CacheInfo struct {
	// Key is its name in the store, ID the one that the Dockerfile gives it.
	Key, ID string
	// Size is the bytes that it occupies on disk.
	Size    int64
	Created time.Time
	Used    time.Time
	InUse   bool
}

// List tells all caches, those used last first. Sizes are counted anew each time.
func (c *Caches) List(ctx context.Context) ([]CacheInfo, error) {
	type place struct {
		info  CacheInfo
		paths []string
	}
	var all []place
	c.mu.Lock()
	for _, one := range c.byKey {
		if len(one.dirs) == 0 {
			continue
		}
		p := place{info: CacheInfo{Key: one.key, ID: cleanID(one.ID), Created: one.Created, InUse: !one.free()}}
		for _, d := range one.dirs {
			p.paths = append(p.paths, d.path)
			if d.used.After(p.info.Used) {
				p.info.Used = d.used
			}
		}
		all = append(all, p)
	}
	c.mu.Unlock()
	list := make([]CacheInfo, 0, len(all))
	for _, p := range all {
		for _, dir := range p.paths {
			n, err := sys.Occupied(ctx, os.DirFS(dir))
			if err != nil {
				return nil, fmt.Errorf("size of cache mount %s: %w", p.info.ID, err)
			}
			p.info.Size += n
		}
		list = append(list, p.info)
	}
	slices.SortFunc(list, func(a, b CacheInfo) int { return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Key, b.Key)) })
	return list, nil
}

// Prune removes the cache called key, and returns the bytes won. One in use is an errdefs.ErrConflict.
func (c *Caches) Prune(ctx context.Context, key string) (int64, error) {
	c.mu.Lock()
	one := c.byKey[key]
	if one == nil {
		c.mu.Unlock()
		return 0, fmt.Errorf("cache mount %s: %w", key, errdefs.ErrNotFound)
	}
	if !one.free() {
		c.mu.Unlock()
		return 0, fmt.Errorf("cache mount %s is in use: %w", cleanID(one.ID), errdefs.ErrConflict)
	}
	delete(c.byKey, key)
	tmp := filepath.Join(c.dir, "t", "p"+key)
	// With the lock, so that nobody begins a cache of that key before it is gone.
	err := os.Rename(filepath.Join(c.dir, key), tmp)
	c.mu.Unlock()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("remove cache mount %s: %w", cleanID(one.ID), err)
	}
	won, err := sys.Occupied(ctx, os.DirFS(tmp))
	return won, errors.Join(err, sys.RemoveTree(tmp))
}

// seedKey names what was imported for an id.
func seedKey(id string) string { return keyOf("seed\x00"+cleanID(id), "") }

// takeSeed moves what was imported into a new directory. The seed is the caller's alone.
func (c *Caches) takeSeed(seed *cache, dir string) error {
	if len(seed.dirs) == 0 {
		return nil
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(seed.dirs[0].path, "d"), dir); err != nil {
		return err
	}
	return c.discard(filepath.Join(c.dir, seed.key))
}

// Import takes the tar for the contents of the cache mount called id from the next step on that mounts it, in place of what
// it has then.
func (c *Caches) Import(ctx context.Context, id string, r io.Reader) error {
	seed := &cache{key: seedKey(id), cacheMeta: cacheMeta{ID: cleanID(id), Created: time.Now().UTC(), Seed: true}}
	plain, _, err := archive.Decompress(r)
	if err != nil {
		return fmt.Errorf("import cache mount %s: %w", id, err)
	}
	defer plain.Close()
	if _, err := c.Prune(ctx, seed.key); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	at := filepath.Join(c.dir, seed.key, "0")
	err = c.make(seed, at, func(dir string) error {
		root, err := sys.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		tarball := bufio.NewReaderSize(plain, 8<<10)
		peeked, _ := tarball.Peek(8 << 10) // room for extended headers; a short one is told by Untar
		first := bytes.Clone(peeked)
		if _, err = archive.Untar(ctx, root, "/", tarball, archive.UntarOptions{}); err != nil {
			return err
		}
		return likeFirst(first, dir)
	})
	if err != nil {
		return err
	}
	seed.dirs = []*cacheDir{{path: at, used: time.Now()}}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byKey[seed.key] = seed
	return nil
}

// likeFirst gives a directory the owner and mode of a tar's first entry, if that is its root.
func likeFirst(head []byte, dir string) error {
	h, err := tar.NewReader(bytes.NewReader(head)).Next()
	if err != nil || h.Typeflag != tar.TypeDir || path.Clean(h.Name) != "." {
		return nil //nolint:nilerr // It begins with something else, and was read to its end already.
	}
	return errors.Join(os.Chown(dir, h.Uid, h.Gid), os.Chmod(dir, sys.FileMode(uint32(h.Mode)))) //nolint:gosec // the low bits matter
}

// Export writes the cache called id, by its key or by the name in the Dockerfile, as a tar; of several of that name the one
// that was used last.
func (c *Caches) Export(ctx context.Context, id string, w io.Writer) error {
	d, err := c.find(id)
	if err != nil {
		return err
	}
	defer c.release(d)
	root, err := sys.OpenRoot(filepath.Join(d.path, "d"))
	if err != nil {
		return fmt.Errorf("export cache mount %s: %w", id, err)
	}
	defer root.Close()
	if err := archive.Tar(ctx, root, "/", w, archive.TarOptions{OneFilesystem: true}); err != nil {
		return fmt.Errorf("export cache mount %s: %w", id, err)
	}
	return nil
}

// find takes a directory for reading. Steps that share it may go on writing.
func (c *Caches) find(id string) (*cacheDir, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found *cacheDir
	var names []string
	for _, one := range c.byKey {
		for _, d := range one.dirs {
			switch {
			case one.key != id && cleanID(one.ID) != cleanID(id):
				names = append(names, cleanID(one.ID))
			case d.exclusive:
				return nil, fmt.Errorf("cache mount %s is in use: %w", id, errdefs.ErrConflict)
			case found == nil || d.used.After(found.used):
				found = d
			}
		}
	}
	if found == nil {
		return nil, &fault.Error{
			Code: "cache-missing", What: "no cache mount " + id, Cause: fmt.Sprintf("there are %q", names), Class: errdefs.ErrNotFound,
		}
	}
	found.users++
	return found, nil
}
