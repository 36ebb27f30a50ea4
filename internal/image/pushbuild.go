package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
)

// PushBuildOptions for PushBuild.
type PushBuildOptions struct {
	BuildOptions
	// ByDigest pushes without a tag.
	ByDigest bool
	// Auth gives the credentials for a registry; nil if there are none.
	Auth   func(ctx context.Context, named reference.Named) (*apiregistry.AuthConfig, error)
	Report Reporter
}

// PushBuild makes images of layers and sends them to the registries of their names. Nothing is named here.
func (s *Store) PushBuild(ctx context.Context, o PushBuildOptions) (*Built, error) {
	names, err := buildNames(o.Names)
	if err != nil {
		return nil, err
	}
	return s.elsewhere(ctx, o.BuildOptions, func(c *composition) error {
		for _, n := range names {
			if err := c.push(ctx, n, &o); err != nil {
				return fmt.Errorf("push %s: %w", reference.FamiliarString(n), err)
			}
		}
		return nil
	})
}

// push sends everything to one repository: blobs, manifests, and the index if there is one.
func (c *composition) push(ctx context.Context, named reference.Named, o *PushBuildOptions) error {
	var auth *apiregistry.AuthConfig
	if o.Auth != nil {
		var err error
		if auth, err = o.Auth(ctx, named); err != nil {
			return err
		}
	}
	repo, err := c.s.client.Repository(ctx, named, auth)
	if err != nil {
		return err
	}
	defer repo.Close()
	tag := strings.TrimPrefix(named.String(), repository(named.String())+":")
	if o.ByDigest {
		tag = c.built.Top.Digest.String()
	}
	for _, d := range append(c.built.Manifests[:len(c.built.Manifests):len(c.built.Manifests)], c.extra...) {
		r, err := c.s.record(d)
		if err != nil {
			return err
		}
		p := &push{s: c.s, repo: repo, name: named.String(), report: o.Report}
		if err := p.blobs(ctx, &r.manifest); err != nil {
			return err
		}
		if d.Digest == c.built.Top.Digest {
			err = c.s.putManifestAt(ctx, repo, tag, d)
		} else {
			err = p.manifest(ctx, d)
		}
		if err != nil {
			return err
		}
	}
	if isIndex(c.built.Top.MediaType) {
		return c.s.putManifestAt(ctx, repo, tag, c.built.Top)
	}
	return nil
}

// materialize makes the blobs of an image's layers that have none, compressed, and a manifest that names them. The image
// stays the same, as its configuration does.
func (s *Store) materialize(ctx context.Context, lease *content.Lease, r *record) (*record, error) {
	missing := false
	for _, l := range r.manifest.Layers {
		missing = missing || !s.content.Has(l.Digest) && s.hasBlob(l)
	}
	if !missing {
		return r, nil
	}
	m := r.manifest
	m.Layers = append([]ocispec.Descriptor(nil), m.Layers...)
	known, made := s.storedBlobs(r.config.RootFS.DiffIDs), map[digest.Digest]ocispec.Descriptor{}
	for i, l := range m.Layers {
		if s.content.Has(l.Digest) {
			continue
		}
		d, ok := made[l.Digest]
		if !ok {
			var err error
			if d, err = s.blob(ctx, lease, r.config.RootFS.DiffIDs[i], known, Compression{}, true); err != nil {
				return nil, err
			}
			made[l.Digest] = d
		}
		if l.MediaType == dockerLayerPlain {
			d.MediaType = dockerLayer(d.MediaType)
		}
		d.Annotations = l.Annotations
		m.Layers[i] = d
	}
	c := &composition{s: s, lease: lease}
	desc, err := c.putJSON(ctx, m.MediaType, m)
	if err != nil {
		return nil, err
	}
	desc.Platform = r.desc.Platform
	return s.record(desc)
}

// LayerBlobs makes, or finds, stored blobs for layers, which must be held. They stay until release is called.
func (s *Store) LayerBlobs(ctx context.Context, ids []digest.Digest, c Compression) (list []ocispec.Descriptor, release func(), err error) {
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	lease := s.content.Lease()
	comp := &composition{s: s, lease: lease}
	o := &BuildOptions{Compression: c, Stored: true}
	if list, err = comp.layerBlobs(ctx, o, ids); err != nil {
		lease.Release()
		return nil, nil, fmt.Errorf("layers' blobs: %w", content.ExplainFull(s.content.Dir(), err))
	}
	return list, lease.Release, nil
}

// PushRaw sends a manifest that is not an image's with the blobs that it names, which are stored here, or given in small:
// a build cache.
func (s *Store) PushRaw(ctx context.Context, ref string, auth *apiregistry.AuthConfig, mediaType string, manifest []byte,
	blobs []ocispec.Descriptor, small map[digest.Digest][]byte,
) error {
	named, err := parseName(ref)
	if err != nil {
		return err
	}
	lease := s.content.Lease()
	defer lease.Release()
	for _, d := range blobs {
		lease.Hold(d.Digest)
		if raw, ok := small[d.Digest]; ok {
			if err := s.putBlob(ctx, d, raw); err != nil {
				return err
			}
		}
	}
	repo, err := s.client.Repository(ctx, named, auth)
	if err != nil {
		return err
	}
	defer repo.Close()
	p := &push{s: s, repo: repo, name: named.String()}
	for _, d := range blobs {
		if err := p.blob(ctx, d, nil); err != nil {
			return err
		}
	}
	return repo.PutManifest(ctx, strings.TrimPrefix(named.String(), repository(named.String())+":"), mediaType, manifest)
}
