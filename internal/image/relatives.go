package image

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Relatives lists the layers of the images whose names are those of the same repository, the latest image's first: other
// versions of one thing have much in common.
func (s *Store) Relatives(_ context.Context, name string) []digest.Digest {
	full, err := fullName(name)
	if err != nil {
		return nil
	}
	var list []digest.Digest
	snap := s.catalog.snapshot()
	for i := len(snap.entries) - 1; i >= 0; i-- {
		e := snap.entries[i]
		if e.name == "" || repository(e.name) != repository(full) {
			continue
		}
		for _, p := range e.parts() {
			if r, err := s.record(p.desc); err == nil {
				list = append(list, r.config.RootFS.DiffIDs...)
			}
		}
	}
	return list
}
