package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kistdev/kist/internal/sys"
)

// Config of a Store.
type Config struct {
	// Dir holds what was downloaded.
	Dir string
	// UserAgent that servers are told.
	UserAgent string
	// MaxSize of a file in bytes; 0 means 64 GiB.
	MaxSize int64
	// Stall is how long nothing may come before a download is given up; 0 means a minute.
	Stall time.Duration
}

// Store gets files and repositories and keeps them. It is safe for concurrent use; one process uses a directory at a time.
type Store struct {
	config Config
	client *http.Client

	mu    sync.Mutex // guards locks
	locks map[string]*lock
}

// lock is held while one thing is downloaded.
type lock struct {
	ch    chan struct{} // holds one token while it is free
	users int
}

// Open opens the store and removes what an interrupted download left.
func Open(c Config) (*Store, error) {
	if c.MaxSize == 0 {
		c.MaxSize = 64 << 30
	}
	if c.Stall == 0 {
		c.Stall = time.Minute
	}
	for _, sub := range []string{"http", "git"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open store of downloads: %w", err)
		}
	}
	if err := sys.RemoveTree(filepath.Join(c.Dir, "t")); err != nil {
		return nil, fmt.Errorf("open store of downloads: %w", err)
	}
	if err := os.Mkdir(filepath.Join(c.Dir, "t"), 0o700); err != nil {
		return nil, fmt.Errorf("open store of downloads: %w", err)
	}
	return &Store{config: c, client: newClient(c), locks: map[string]*lock{}}, nil
}

// Close drops idle connections.
func (s *Store) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// hold makes sure that one thing is downloaded once at a time.
func (s *Store) hold(ctx context.Context, name string) (release func(), err error) {
	s.mu.Lock()
	l := s.locks[name]
	if l == nil {
		l = &lock{ch: make(chan struct{}, 1)}
		l.ch <- struct{}{}
		s.locks[name] = l
	}
	l.users++
	s.mu.Unlock()
	drop := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.locks, name)
		}
	}
	select {
	case <-l.ch:
		return func() { l.ch <- struct{}{}; drop() }, nil
	case <-ctx.Done():
		drop()
		return nil, context.Cause(ctx)
	}
}

// temp makes a directory that the next Open removes if nobody does before.
func (s *Store) temp() (string, error) {
	dir, err := os.MkdirTemp(filepath.Join(s.config.Dir, "t"), "")
	if err != nil {
		return "", fmt.Errorf("temporary directory of a download: %w", err)
	}
	return dir, nil
}

func nameOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Kept is a download that is kept.
type Kept struct {
	// Key is its name in the store.
	Key string
	// Size is the bytes that it occupies on disk.
	Size int64
	// Used is when it was asked for last.
	Used time.Time
}

// List tells what is kept.
func (s *Store) List(ctx context.Context) ([]Kept, error) {
	var list []Kept
	for _, sub := range []string{"http", "git"} {
		entries, err := os.ReadDir(filepath.Join(s.config.Dir, sub))
		if err != nil {
			return nil, fmt.Errorf("list downloads: %w", err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue // gone meanwhile
			}
			size, err := sys.Occupied(ctx, os.DirFS(filepath.Join(s.config.Dir, sub, e.Name())))
			if err != nil {
				return nil, fmt.Errorf("list downloads: %w", err)
			}
			list = append(list, Kept{Key: sub + "/" + e.Name(), Size: size, Used: info.ModTime()})
		}
	}
	return list, nil
}

// Prune removes what is kept under a key of List, once nobody is downloading it.
func (s *Store) Prune(ctx context.Context, key string) error {
	if sub, name := filepath.Split(key); (sub != "http/" && sub != "git/") || name == "" || name[0] == '.' {
		return fmt.Errorf("remove download %q: %w", key, fs.ErrNotExist)
	}
	release, err := s.hold(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	tmp, err := s.temp()
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(s.config.Dir, key), filepath.Join(tmp, "x")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove download: %w", err)
	}
	return sys.RemoveTree(tmp)
}

// touch notes that something was asked for.
func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now) // Only the order of dropping hangs on it.
}
