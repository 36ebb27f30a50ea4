package build

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/db"
)

// output is what a vertex made of one of its inputs: layers on top of it. An output without base stands on nothing.
type output struct {
	// Base is the input that the layers lie on, -1 for none.
	Base  int             `json:"base"`
	Added []digest.Digest `json:"added,omitempty"`
	// None says that the output was not asked for.
	None bool `json:"none,omitempty"`
}

// record is a row of the cache: what the step with this key made.
type record struct {
	Outputs []output  `json:"outputs"`
	Size    int64     `json:"size"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
	Uses    int       `json:"uses"`
	// Name of the step as progress showed it, and the kind of thing it is in buildx's lists.
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Parents are the keys of the steps that this one stands on.
	Parents []digest.Digest `json:"parents,omitempty"`
	// Results are the identities of the outputs. They are there in a record whose key is a step's definition: what the outputs'
	// layers lie on may come out otherwise than when the record was made.
	Results []digest.Digest `json:"results,omitempty"`
}

func (r *record) layers(fn func(digest.Digest) bool) bool {
	for _, o := range r.Outputs {
		for _, d := range o.Added {
			if !fn(d) {
				return false
			}
		}
	}
	return true
}

var (
	recordTable  = db.Table[record]{Name: "records"}
	historyTable = db.Table[history]{Name: "history"}
	contentTable = db.Table[digest.Digest]{Name: "content"}
)

// Cache is the rows that say what steps have made. It is opened before the stores whose layers it needs. Writing is behind: the step whose result is told does not wait for the disk, and a crash of
// the machine costs at most what was written last, which then runs again.
type Cache struct {
	db *db.DB

	mu      sync.Mutex // guards what follows
	all     map[digest.Digest]*record
	layers  map[digest.Digest]int // how many records need a layer
	defined int                   // how many records have a definition for a key
	history map[string]*history   // read or written since Open
	content map[string]digest.Digest
	keeps   int // how often a history was kept since Open
	lists   []namedList
	dirty   []func(*db.Tx) error
	closed  bool
	wake    chan struct{}
	done    chan struct{}
}

// OpenCache opens the file of rows and reads all of them: they are few and small, and a step that is cached costs no
// reading then. A file that is damaged is begun anew: it is a cache.
func OpenCache(path string) (*Cache, error) {
	file, err := db.Open(path, db.Options{})
	if err != nil && !errdefs.IsConflict(err) {
		slog.Warn("the build cache cannot be read and is begun anew", "error", err)
		if err := os.Rename(path, path+".damaged"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		file, err = db.Open(path, db.Options{})
	}
	if err != nil {
		return nil, fmt.Errorf("open the build cache: %w", err)
	}
	r := &Cache{
		db: file, all: map[digest.Digest]*record{}, layers: map[digest.Digest]int{}, history: map[string]*history{},
		content: map[string]digest.Digest{}, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	err = file.View(func(tx *db.Tx) error {
		if err := contentTable.Each(tx, func(key string, d *digest.Digest) error {
			r.content[key] = *d
			return nil
		}); err != nil {
			return err
		}
		return recordTable.Each(tx, func(key string, row *record) error {
			r.add(digest.Digest(key), row)
			return nil
		})
	})
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("read the build cache: %w", err)
	}
	go r.write()
	return r, nil
}

// Close writes what is left and closes the file.
func (r *Cache) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.wake)
	}
	r.mu.Unlock()
	<-r.done
	return r.db.Close()
}

// write puts what has gathered into the file, all at once.
func (r *Cache) write() {
	defer close(r.done)
	for open := true; open; {
		_, open = <-r.wake
		r.mu.Lock()
		dirty := r.dirty
		r.dirty = nil
		r.mu.Unlock()
		if len(dirty) == 0 {
			continue
		}
		err := r.db.Update(func(tx *db.Tx) error {
			for _, fn := range dirty {
				if err := fn(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			slog.Warn("the build cache could not be written; what was built last will run again", "error", err)
		}
	}
}

// later has fn run in the next transaction. The lock must be held.
func (r *Cache) later(fn func(*db.Tx) error) {
	if r.closed {
		return
	}
	r.dirty = append(r.dirty, fn)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Cache) add(key digest.Digest, row *record) {
	r.drop(key)
	r.all[key] = row
	if len(row.Results) > 0 {
		r.defined++
	}
	row.layers(func(d digest.Digest) bool { r.layers[d]++; return true })
}

func (r *Cache) drop(key digest.Digest) {
	old, ok := r.all[key]
	if !ok {
		return
	}
	delete(r.all, key)
	if len(old.Results) > 0 {
		r.defined--
	}
	old.layers(func(d digest.Digest) bool {
		if r.layers[d]--; r.layers[d] == 0 {
			delete(r.layers, d)
		}
		return true
	})
}

// get is the record under key; it must not be changed.
func (r *Cache) get(key digest.Digest) (*record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.all[key]
	return row, ok
}

// hasDefined says whether any record has a definition for a key.
func (r *Cache) hasDefined() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.defined > 0
}

func (r *Cache) put(key digest.Digest, row *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(key, row)
	r.later(func(tx *db.Tx) error { return recordTable.Put(tx, key.String(), row) })
}

// remove takes records away and returns those that were there.
func (r *Cache) remove(keys ...digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		if _, ok := r.all[key]; !ok {
			continue
		}
		r.drop(key)
		r.later(func(tx *db.Tx) error { return recordTable.Delete(tx, key.String()) })
	}
}

// used notes that builds have used the records just now. A use within the hour of the last one is not worth a write.
func (r *Cache) used(keys []digest.Digest, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		old, ok := r.all[key]
		if !ok {
			continue
		}
		row := *old
		row.Uses++
		row.Used = now
		r.all[key] = &row
		if now.Sub(old.Used) > time.Hour {
			r.later(func(tx *db.Tx) error { return recordTable.Put(tx, key.String(), &row) })
		}
	}
}

// Layers lists the layers that records need.
func (r *Cache) Layers() []digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.layers))
}

// snapshot is all records at this time.
func (r *Cache) snapshot() map[digest.Digest]*record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.all)
}

// contentOf remembers what a part of a tree that cannot change holds: key names both, fn finds out.
func (r *Cache) contentOf(key string, fn func() (digest.Digest, error)) (digest.Digest, error) {
	r.mu.Lock()
	d, ok := r.content[key]
	r.mu.Unlock()
	if ok {
		return d, nil
	}
	d, err := fn()
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.content) >= maxContent {
		clear(r.content)
		r.later(func(tx *db.Tx) error {
			var keys []string
			if err := contentTable.Each(tx, func(key string, _ *digest.Digest) error {
				keys = append(keys, key)
				return nil
			}); err != nil {
				return err
			}
			for _, key := range keys {
				if err := contentTable.Delete(tx, key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	r.content[key] = d
	r.later(func(tx *db.Tx) error { return contentTable.Put(tx, key, &d) })
	return d, nil
}

// maxContent bounds what contentOf remembers; beyond it, it begins anew.
const maxContent = 50_000
