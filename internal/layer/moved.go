package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/sys"
)

// UnpackMade is Unpack for the plain tar of a layer that another store's Commit made: WriteTar can write it here too. The hold
// takes it.
func (s *Store) UnpackMade(ctx context.Context, diffID digest.Digest, created time.Time, r io.Reader, h *Hold) error {
	if err := diffID.Validate(); err != nil || diffID.Algorithm() != digest.SHA256 {
		return fmt.Errorf("unpack layer: diff id %q is not a sha256 digest: %w", diffID, errdefs.ErrInvalidArgument)
	}
	count := &counter{r: r}
	_, err := s.unpackWith(ctx, diffID, count, h, func(l *unpacked) { l.Tar, l.Created = count.n, created.UnixNano() })
	return err
}

// All lists the layers that are there.
func (s *Store) All() []digest.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.layers))
}

// Fill unpacks a tar that Diff wrote into the writable layer id, which nobody has mounted or written to yet.
func (s *Store) Fill(ctx context.Context, id string, r io.Reader) error {
	p, err := s.root(id)
	if err != nil {
		return err
	}
	if p.ReadOnly {
		return fmt.Errorf("fill root filesystem %s: it is read-only: %w", id, errdefs.ErrFailedPrecondition)
	}
	root, err := sys.OpenRoot(s.dir + "/c/" + id + "/u")
	if err != nil {
		return fmt.Errorf("fill root filesystem %s: %w", id, err)
	}
	_, err = archive.Untar(ctx, root, ".", r, archive.UntarOptions{Layer: true, UserXattr: s.userXattr})
	if err == nil {
		_, err = io.Copy(io.Discard, r) // What follows the end marker.
	}
	if err = errors.Join(err, root.Close()); err != nil {
		return fmt.Errorf("fill root filesystem %s: %w", id, err)
	}
	return nil
}
