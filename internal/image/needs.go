package image

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Needs says which blobs and layers the images need at this time, if only because others lie over them.
func (s *Store) Needs() func(digest.Digest) bool {
	set := s.reachable()
	for d := range set {
		s.layers.Parts(d, func(part digest.Digest, _ int64) { set.add(part) })
	}
	return set.has
}

// Collect deletes the blobs and layers that nothing needs, and returns the bytes won.
func (s *Store) Collect(ctx context.Context) (int64, error) { return s.collect(ctx) }

// Blob opens a blob and tells its size; one that is not there is an errdefs.ErrNotFound. The digest of the plain tar of a
// layer that was built here is one of those that are there.
func (s *Store) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d}
	size, err := s.blobSize(desc)
	if err != nil {
		return nil, 0, err
	}
	r, err := s.openBlob(ctx, desc)
	return r, size, err
}
