package runstep

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/sys"
)

// Caches are the directories of cache mounts. A cache has one directory that is shared, or locked, and more of them while
// several steps want it for themselves.
//
// On disk: KEY/meta tells what it is, KEY/0 KEY/1 ... are the directories, KEY/N/d what is mounted; "t" holds what is
// being made or deleted. When a directory was used last is the time of KEY/N.
type Caches struct {
	dir    string
	layers *layer.Store

	mu      sync.Mutex // guards what follows
	byKey   map[string]*cache
	changed chan struct{} // closed, and made anew, when somebody lets go of a directory
	serial  int
}

// cacheMeta is what is written down of a cache.
type cacheMeta struct {
	// ID as the mount names it; Base is what it was begun from, empty for nothing.
	ID, Base string
	Created  time.Time
	// Seed says that it was imported, and waits for the first mount of its ID.
	Seed bool `json:",omitempty"`
}

type cache struct {
	cacheMeta
	key  string
	dirs []*cacheDir
}

// cacheDir is one directory of a cache.
type cacheDir struct {
	path      string // of KEY/N
	users     int
	exclusive bool
	used      time.Time
}

func openCaches(dir string, layers *layer.Store) (*Caches, error) {
	if err := os.MkdirAll(filepath.Join(dir, "t"), 0o700); err != nil {
		return nil, fmt.Errorf("open cache mounts: %w", err)
	}
	c := &Caches{dir: dir, layers: layers, byKey: map[string]*cache{}, changed: make(chan struct{})}
	left, err := os.ReadDir(filepath.Join(dir, "t"))
	if err != nil {
		return nil, fmt.Errorf("open cache mounts: %w", err)
	}
	for _, e := range left {
		if err := sys.RemoveTree(filepath.Join(dir, "t", e.Name())); err != nil {
			return nil, fmt.Errorf("open cache mounts: %w", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open cache mounts: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "t" {
			continue
		}
		one, err := c.load(e.Name())
		if err != nil { // A crash of the machine; it is only a cache.
			slog.Warn("cache mount is dropped", "key", e.Name(), "error", err)
			if err := c.discard(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		c.byKey[one.key] = one
	}
	return c, nil
}

func (c *Caches) load(key string) (*cache, error) {
	raw, err := os.ReadFile(filepath.Join(c.dir, key, "meta"))
	if err != nil {
		return nil, err
	}
	one := &cache{key: key}
	if err := json.Unmarshal(raw, &one.cacheMeta); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(c.dir, key))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		one.dirs = append(one.dirs, &cacheDir{path: filepath.Join(c.dir, key, e.Name()), used: info.ModTime()})
	}
	return one, nil
}

// keyOf names a cache on disk.
func keyOf(id, base string) string {
	sum := sha256.Sum256([]byte(id + "\x00" + base))
	return hex.EncodeToString(sum[:16])
}

// cleanID is a cache's name as people write it: BuildKit puts a namespace, mostly empty, and a slash before it.
func cleanID(id string) string { return strings.TrimPrefix(path.Clean("/"+id), "/") }

// make makes a directory of a cache, with what fill puts into it. c.mu is not held: that may take its time.
func (c *Caches) make(one *cache, at string, fill func(dir string) error) error {
	tmp := c.temp()
	data := filepath.Join(tmp, "d")
	err := os.Mkdir(tmp, 0o711)
	if err == nil {
		err = os.Mkdir(data, 0o755)
	}
	if err == nil {
		err = fill(data)
	}
	if err == nil {
		err = c.writeMeta(one)
	}
	if err == nil {
		err = os.Rename(tmp, at)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make cache mount %s: %w", cleanID(one.ID), err), sys.RemoveTree(tmp))
	}
	return nil
}

// temp names something in t.
func (c *Caches) temp() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	return filepath.Join(c.dir, "t", strconv.Itoa(c.serial))
}

// writeMeta writes down what a cache is, once.
func (c *Caches) writeMeta(one *cache) error {
	file := filepath.Join(c.dir, one.key, "meta")
	if _, err := os.Lstat(file); err == nil {
		return nil
	}
	raw, err := json.Marshal(one.cacheMeta)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o711); err != nil {
		return err
	}
	tmp := c.temp() // Several directories of one cache may be made at a time.
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// discard moves a directory away and deletes it.
func (c *Caches) discard(at string) error {
	tmp := c.temp()
	if err := os.Rename(at, tmp); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("remove cache mount: %w", err)
	}
	return sys.RemoveTree(tmp)
}

// changedLocked tells those who wait that a directory is free.
func (c *Caches) changedLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// number returns the lowest number that no directory of the cache has.
func (one *cache) number() int {
	for n := 0; ; n++ {
		name := strconv.Itoa(n)
		if !slices.ContainsFunc(one.dirs, func(d *cacheDir) bool { return filepath.Base(d.path) == name }) {
			return n
		}
	}
}
