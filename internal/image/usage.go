package image

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Usage is the disk use of all images: bytes of blobs and layers, shared ones counted once, and what removal of unused
// images would give back. Blobs that no image needs, and partial ones, count as reclaimable.
func (s *Store) Usage(_ context.Context) (total, reclaimable int64, err error) {
	snap, users := s.catalog.snapshot(), s.inUse()
	used, layers := digests{}, digests{}
	s.each(snap, func(e entry, r *record) {
		if len(users[r.id]) > 0 {
			s.markEntry(e, used) // Those for other platforms go with it, or stay.
		}
		layers.add(r.config.RootFS.DiffIDs...)
	})
	err = s.content.Each(func(d digest.Digest, size int64) error {
		total += size
		if !used.has(d) {
			reclaimable += size
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	partial, err := s.content.Partial()
	if err != nil {
		return 0, 0, err
	}
	total, reclaimable = total+partial, reclaimable+partial
	for d := range used {
		s.layers.Parts(d, func(part digest.Digest, _ int64) { used.add(part) })
	}
	counted := digests{}
	for d := range layers {
		s.layers.Parts(d, func(part digest.Digest, n int64) {
			if counted.has(part) {
				return
			}
			counted.add(part)
			total += n
			if !used.has(part) {
				reclaimable += n
			}
		})
	}
	return total, reclaimable, nil
}
