package layer

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
)

// root looks a root filesystem up. One whose layers were lost is found again once they have been unpacked again.
func (s *Store) root(id string) (*prepared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost[id] {
		if p := s.readRoot(id); p != nil {
			s.roots[id] = p
			delete(s.lost, id)
		}
	}
	switch p := s.roots[id]; {
	case p != nil:
		return p, nil
	case s.lost[id]:
		return nil, fmt.Errorf("root filesystem %s: its layers are missing: %w", id, errdefs.ErrFailedPrecondition)
	}
	return nil, fmt.Errorf("root filesystem %s: %w", id, errdefs.ErrNotFound)
}

// Prepared lists the ids of writable layers, sorted; those too whose layers were lost in a crash of the machine.
func (s *Store) Prepared() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := slices.Collect(maps.Keys(s.roots))
	ids = slices.AppendSeq(ids, maps.Keys(s.lost))
	slices.Sort(ids)
	return ids, nil
}

// recoverRoots reads the root filesystems that are there. One whose description or layers a crash of the machine has
// taken is kept, as its writable layer may be dear to someone.
func (s *Store) recoverRoots() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "c"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if p := s.readRoot(e.Name()); p != nil {
			s.roots[e.Name()] = p
		} else {
			s.lost[e.Name()] = true
		}
	}
	return nil
}

// readRoot reads what a root filesystem stands on; nil if that is not all there.
func (s *Store) readRoot(id string) *prepared {
	data, err := os.ReadFile(filepath.Join(s.dir, "c", id, "m"))
	if err != nil {
		return nil
	}
	p := new(prepared)
	if json.Unmarshal(data, p) != nil {
		return nil
	}
	if slices.ContainsFunc(p.Lower, func(name string) bool { return s.names[name] == nil }) {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "i", p.Base)); err == nil {
		return p
	}
	if p.Base, err = s.base(p); err != nil { // made again: it is the same
		return nil
	}
	return p
}
