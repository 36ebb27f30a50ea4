package content

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// StaleAfter is how long a partial blob waits for the next attempt.
const StaleAfter = 24 * time.Hour

// Lease protects digests from Sweep: those of blobs, and of what is made from blobs. It must be released, after the
// names that keep its digests have been written.
type Lease struct {
	s    *Store
	held map[digest.Digest]struct{} // guarded by s.mu
}

// Lease begins a lease on nothing.
func (s *Store) Lease() *Lease {
	return &Lease{s: s, held: map[digest.Digest]struct{}{}}
}

// Hold adds digests to the lease, whether or not there is such a blob yet. When it returns, Has can be believed until
// the lease is released. It waits while a Sweep runs.
func (l *Lease) Hold(digests ...digest.Digest) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.held == nil {
		return
	}
	for _, d := range digests {
		if _, ok := l.held[d]; !ok {
			l.held[d] = struct{}{}
			l.s.leased[d]++
		}
	}
}

// Release ends the lease. It may be called twice.
func (l *Lease) Release() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for d := range l.held {
		if l.s.leased[d]--; l.s.leased[d] == 0 {
			delete(l.s.leased, d)
		}
	}
	l.held = nil
}

// Keep says which digests are still needed.
type Keep func(digest.Digest) bool

// Sweep deletes the blobs that nothing needs, and stale partial ones, and returns the bytes won. mark is called while no
// lease can change; it gets what is leased, and returns what names need. What is made from blobs is best collected within
// mark, as the same standstill protects it.
func (s *Store) Sweep(mark func(leased Keep) (Keep, error)) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leased := func(d digest.Digest) bool { return s.leased[d] > 0 }
	needed, err := mark(leased)
	if err != nil {
		return 0, err
	}
	won, err := s.dropStale()
	if err != nil {
		return won, err
	}
	err = s.Each(func(d digest.Digest, size int64) error {
		if leased(d) || needed(d) {
			return nil
		}
		won += size
		return s.Delete(d)
	})
	return won, err
}

// Recover turns every blob that nothing needs into a partial one: it was written by an operation that a crash
// interrupted, so its bytes may not have reached the disk, but most often they did. Call it right after Open.
func (s *Store) Recover(needed Keep) error {
	return s.Each(func(d digest.Digest, _ int64) error {
		if needed(d) {
			return nil
		}
		name, err := s.blobPath(d)
		if err != nil {
			return err
		}
		if err := os.Rename(name, filepath.Join(s.dir, ingestDir, partialName(d))); err != nil {
			return fmt.Errorf("recover blob %s: %w", d, err)
		}
		return nil
	})
}

func (s *Store) dropDrafts() error {
	return s.eachPartial(func(fi fs.FileInfo) error {
		if strings.HasPrefix(fi.Name(), "draft-") {
			return os.Remove(filepath.Join(s.dir, ingestDir, fi.Name()))
		}
		return nil
	})
}

// DropPartials removes the partial blobs that nobody is writing and which shall go, however fresh they are.
func (s *Store) DropPartials(which func(digest.Digest) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.dropOlder(time.Now(), which)
	return err
}

// dropStale removes partial blobs that nobody came back for.
func (s *Store) dropStale() (int64, error) {
	return s.dropOlder(time.Now().Add(-StaleAfter), func(digest.Digest) bool { return true })
}

// dropOlder removes partial blobs that were written to last before a time.
func (s *Store) dropOlder(than time.Time, which func(digest.Digest) bool) (int64, error) {
	var won int64
	err := s.eachPartial(func(fi fs.FileInfo) error {
		d, ok := partialDigest(fi.Name())
		if !ok || fi.ModTime().After(than) || !which(d) {
			return nil
		}
		release, free := s.writing.Try(d)
		if !free {
			return nil
		}
		defer release()
		won += fi.Size()
		return os.Remove(filepath.Join(s.dir, ingestDir, fi.Name()))
	})
	return won, err
}
