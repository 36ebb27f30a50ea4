package layer

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// SetNote writes down what somebody wants to know about a layer as long as it is there: where its tar can be had, for one
// that was not made here.
func (s *Store) SetNote(diffID digest.Digest, note string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.layers[diffID]
	if l == nil {
		return errNoLayer(diffID)
	}
	if l.note == note {
		return nil
	}
	// A note that a crash cuts off is as good as none, to who reads it.
	if err := os.WriteFile(filepath.Join(s.dir, "l", l.name, "n"), []byte(note), 0o600); err != nil {
		return fmt.Errorf("note about layer %s: %w", diffID, err)
	}
	l.note = note
	return nil
}

// Notes are the notes about all layers that have one.
func (s *Store) Notes() map[digest.Digest]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	notes := make(map[digest.Digest]string)
	for id, l := range s.layers {
		if l.note != "" {
			notes[id] = l.note
		}
	}
	return notes
}
