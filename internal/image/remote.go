package image

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Resolve asks the registry for a reference's descriptor and platforms (docker's distribution inspect).
func (s *Store) Resolve(ctx context.Context, ref string, auth *registry.AuthConfig) (registry.DistributionInspect, error) {
	var found registry.DistributionInspect
	named, err := parseName(ref)
	if err != nil {
		return found, err
	}
	repo, err := s.client.Repository(ctx, named, auth)
	if err != nil {
		return found, err
	}
	defer repo.Close()
	p := &pull{s: s, repo: repo, named: named}
	d, raw, err := repo.Manifest(ctx, p.reference())
	if err != nil {
		return found, err
	}
	if d.MediaType, err = kindOf(d.MediaType, raw); err != nil {
		return found, err
	}
	found.Descriptor = d
	found.Platforms = []ocispec.Platform{}
	if isIndex(d.MediaType) {
		index, err := parseIndex(raw)
		if err != nil {
			return found, err
		}
		for _, m := range index.Manifests {
			if m.Platform != nil {
				found.Platforms = append(found.Platforms, *m.Platform)
			}
		}
		return found, nil
	}
	m, err := parseManifest(raw)
	if err != nil {
		return found, err
	}
	if raw, err = repo.Blob(ctx, m.Config, configLimit); err != nil {
		return found, fmt.Errorf("inspect %s: %w", reference.FamiliarString(named), err)
	}
	config, err := parseConfig(raw, len(m.Layers))
	if err != nil {
		return found, err
	}
	found.Platforms = append(found.Platforms, config.Platform)
	return found, nil
}

// Login checks credentials with a registry and returns an identity token if it gives one.
func (s *Store) Login(ctx context.Context, auth registry.AuthConfig) (status, token string, err error) {
	return s.client.Login(ctx, auth)
}
