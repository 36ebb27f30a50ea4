package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/registry"
)

// found is what a registry has under a reference, for a platform.
type found struct {
	desc ocispec.Descriptor // of the manifest
	raw  []byte
	// source is the digest that the reference stands for: the index's if there is one.
	source digest.Digest
	// index names the manifest; nil if there is none, or if it is in an index in it.
	index []byte
	kind  string // the index's media type
}

// manifest fetches the manifest for the platform.
func (p *pull) manifest(ctx context.Context) (f found, err error) {
	f.desc, f.raw, err = p.repo.Manifest(ctx, p.reference())
	if err != nil {
		return f, err
	}
	f.source = f.desc.Digest
	for depth := 0; ; depth++ {
		if f.desc.MediaType, err = kindOf(f.desc.MediaType, f.raw); err != nil {
			return f, err
		}
		if isManifest(f.desc.MediaType) {
			return f, nil
		}
		if depth == 3 {
			return f, notAnImage("its indexes are nested too deeply")
		}
		index, err := parseIndex(f.raw)
		if err != nil {
			return f, err
		}
		chosen, err := choose(index, p.o.Platform)
		if err != nil {
			return f, fmt.Errorf("%s: %w", reference.FamiliarString(p.named), err)
		}
		f.index, f.kind = f.raw, f.desc.MediaType
		if depth > 0 {
			f.index = nil
		}
		if f.desc, f.raw, err = p.repo.Manifest(ctx, chosen.Digest.String()); err != nil {
			return f, err
		}
	}
}

// blobs brings configuration, layers and manifest here.
func (p *pull) blobs(ctx context.Context, desc ocispec.Descriptor, raw []byte) (*record, error) {
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	p.lease.Hold(desc.Digest, m.Config.Digest)
	config, err := p.config(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(reference.FamiliarString(p.named), config.Platform, p.o.Platform); err != nil {
		return nil, err
	}
	if err := p.layers(ctx, m, config.RootFS.DiffIDs); err != nil {
		return nil, err
	}
	if err := p.s.putBlob(ctx, desc, raw); err != nil {
		return nil, err
	}
	return p.s.record(desc)
}

// config fetches the configuration, which tells the layers' diff ids.
func (p *pull) config(ctx context.Context, m *ocispec.Manifest) (*dockerspec.DockerOCIImage, error) {
	if m.Config.MediaType == ocispec.MediaTypeEmptyJSON || m.ArtifactType != "" {
		return nil, notAnImage("it is an artifact of type " + m.ArtifactType)
	}
	raw, err := p.s.content.Bytes(m.Config.Digest, configLimit)
	if errors.Is(err, errdefs.ErrDataLoss) {
		if err := p.s.content.Delete(m.Config.Digest); err != nil {
			return nil, err
		}
	}
	if err != nil {
		if raw, err = p.repo.Blob(ctx, m.Config, configLimit); err != nil {
			return nil, fmt.Errorf("fetch image configuration: %w", err)
		}
		if err := p.s.putBlob(ctx, m.Config, raw); err != nil {
			return nil, err
		}
	}
	return parseConfig(raw, len(m.Layers))
}

// putBlob stores a small blob that is in memory.
func (s *Store) putBlob(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	return s.put(ctx, d.Digest, int64(len(raw)), func(w *content.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

// kindOf tells what a manifest is, by the registry's word and by its own. Schema 1 is refused.
func kindOf(mediaType string, raw []byte) (string, error) {
	kind, schema, err := selfDescription(raw)
	if err != nil {
		return "", err
	}
	if schema == 1 || mediaType == registry.MediaTypeDockerSchema1 || mediaType == registry.MediaTypeSignedSchema1 {
		return "", &fault.Error{
			Code: "manifest-schema1", What: "the image has a manifest of Docker schema 1", Class: errdefs.ErrNotImplemented,
			Cause: "that format was given up in 2019; its layers cannot be verified", Try: "push the image again with a newer tool",
		}
	}
	if isManifest(mediaType) || isIndex(mediaType) {
		return mediaType, nil
	}
	if isManifest(kind) || isIndex(kind) {
		return kind, nil
	}
	return "", notAnImage(fmt.Sprintf("its manifest has the media type %q", mediaType))
}
