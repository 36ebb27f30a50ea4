package image

import (
	"context"

	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Manifests describes what is here under a reference: one image, as a name stands for one platform's.
func (s *Store) Manifests(ctx context.Context, ref string) ([]image.ManifestSummary, error) {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	m := image.ManifestSummary{
		ID: img.Manifest.Digest.String(), Descriptor: img.Manifest, Available: true, Kind: image.ManifestKindImage,
		ImageData: &image.ImageProperties{Platform: img.Config.Platform, Containers: append([]string{}, s.inUse()[img.ID]...)},
	}
	for _, l := range img.Layers {
		if n, err := s.layers.Size(l); err == nil {
			m.ImageData.Size.Unpacked += n
		}
	}
	m.Size.Total = img.Size
	m.Size.Content = max(0, img.Size-m.ImageData.Size.Unpacked)
	return []image.ManifestSummary{m}, nil
}

// Require is an errdefs.ErrNotFound if the image under a reference is none for the platform. Nil is any platform.
func (s *Store) Require(ctx context.Context, ref string, p *ocispec.Platform) error {
	if p == nil {
		return nil
	}
	img, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	return checkPlatform(ref, img.Config.Platform, p)
}
