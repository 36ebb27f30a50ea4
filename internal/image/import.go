package image

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
)

// ImportOptions for Import.
type ImportOptions struct {
	Ref      string // name, may be empty
	Message  string
	Changes  []string // Dockerfile instructions
	Platform *ocispec.Platform
}

// Import makes an image of one layer from a root filesystem tar, compressed or not.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (*Image, error) {
	names, err := optionalName(o.Ref)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	config := &dockerspec.DockerOCIImage{}
	if err := ApplyChanges(&config.Config, o.Changes); err != nil {
		return nil, err
	}
	config.Created = &now
	config.Platform = platforms.DefaultSpec()
	if o.Platform != nil {
		config.Platform, _ = wanted(o.Platform)
	}
	config.History = []ocispec.History{{Created: &now, Comment: o.Message}}
	lease := s.content.Lease()
	defer lease.Release()
	layer, err := s.storeLayer(ctx, lease, r)
	if err != nil {
		return nil, fmt.Errorf("import: %w", content.ExplainFull(s.content.Dir(), err))
	}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.diffID}}
	img, err := s.assemble(ctx, lease, newImage{config: config, layers: []ocispec.Descriptor{layer.blob}, names: names})
	if err != nil {
		return nil, fmt.Errorf("import: %w", content.ExplainFull(s.content.Dir(), err))
	}
	s.emit(events.ActionImport, img.ID.String(), img.ID.String(), config.Config.Labels)
	return img, nil
}
