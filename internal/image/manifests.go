package image

import (
	"context"
	"slices"

	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Manifests describes what is under a reference: all that its index names, whether it is here or not, or its one image.
func (s *Store) Manifests(_ context.Context, ref string) ([]image.ManifestSummary, error) {
	e, err := s.catalog.snapshot().find(ref)
	if err != nil {
		return nil, err
	}
	users := s.inUse()
	var list []image.ManifestSummary
	left := e.parts()
	for _, d := range s.children(e) {
		i := slices.IndexFunc(left, func(p part) bool { return p.desc.Digest == d.Digest })
		switch {
		case i >= 0:
			list = append(list, s.imageManifest(left[i], d, users))
			left = slices.Delete(left, i, i+1)
		case isStatement(d):
			list = append(list, s.statementManifest(d))
		default:
			list = append(list, absentManifest(d))
		}
	}
	for _, p := range left {
		list = append(list, s.imageManifest(p, p.desc, users))
	}
	return list, nil
}

// children are what the index of an entry names.
func (s *Store) children(e entry) []ocispec.Descriptor {
	if e.index.Digest == "" {
		return nil
	}
	index, err := s.indexOf(e.index)
	if err != nil {
		return nil // An older version that opened the store did not keep it.
	}
	return slices.DeleteFunc(slices.Clone(index.Manifests), func(d ocispec.Descriptor) bool { return checkDescriptor(d) != nil })
}

func (s *Store) imageManifest(p part, d ocispec.Descriptor, users map[digest.Digest][]string) image.ManifestSummary {
	m := image.ManifestSummary{
		ID: d.Digest.String(), Descriptor: d, Kind: image.ManifestKindImage,
		ImageData: &image.ImageProperties{Containers: append([]string{}, users[p.id]...)},
	}
	r, err := s.record(p.desc)
	if err != nil {
		return m // A damaged image is not available.
	}
	m.Available, m.ImageData.Platform = true, r.config.Platform
	has := s.occupied([]part{p})
	m.ImageData.Size.Unpacked = has.unpacked()
	m.Size.Total = has.total()
	m.Size.Content = m.Size.Total - m.ImageData.Size.Unpacked
	return m
}

func (s *Store) statementManifest(d ocispec.Descriptor) image.ManifestSummary {
	m := image.ManifestSummary{
		ID: d.Digest.String(), Descriptor: d, Kind: image.ManifestKindAttestation,
		AttestationData: &image.AttestationProperties{For: about(d)},
	}
	manifest, ok := s.hasStatement(d)
	if !ok {
		return m
	}
	m.Available = true
	has := occupied{}
	has.blobs(s, d.Digest, manifest.Config.Digest)
	for _, l := range manifest.Layers {
		has.blobs(s, l.Digest)
	}
	m.Size.Content = has.total()
	m.Size.Total = m.Size.Content
	return m
}

// absentManifest is one that is not here: nobody has asked for its platform.
func absentManifest(d ocispec.Descriptor) image.ManifestSummary {
	m := image.ManifestSummary{ID: d.Digest.String(), Descriptor: d, Kind: image.ManifestKindUnknown}
	if isManifest(d.MediaType) && d.Platform != nil && d.Platform.OS != "unknown" {
		m.Kind, m.ImageData = image.ManifestKindImage, &image.ImageProperties{Platform: *d.Platform, Containers: []string{}}
	}
	return m
}
