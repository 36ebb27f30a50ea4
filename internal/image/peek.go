package image

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Remote is an image as its registry describes it.
type Remote struct {
	// Digest is what the reference stands for: an index's if there is one. Manifest is that of the platform's manifest.
	Digest, Manifest digest.Digest
	// Config is the configuration as it is stored.
	Config []byte
}

// Peek asks the registry for the configuration of an image, without fetching its layers.
func (s *Store) Peek(ctx context.Context, ref string, o PullOptions) (Remote, error) {
	named, err := parseName(ref)
	if err != nil {
		return Remote{}, err
	}
	repo, err := s.client.Repository(ctx, named, o.Auth)
	if err != nil {
		return Remote{}, err
	}
	defer repo.Close()
	p := &pull{s: s, repo: repo, named: named, o: o}
	f, err := p.manifest(ctx)
	if err != nil {
		return Remote{}, err
	}
	m, err := parseManifest(f.raw)
	if err != nil {
		return Remote{}, err
	}
	config, err := repo.Blob(ctx, m.Config, configLimit)
	if err != nil {
		return Remote{}, fmt.Errorf("look at %s: %w", reference.FamiliarString(named), err)
	}
	parsed, err := parseConfig(config, len(m.Layers))
	if err != nil {
		return Remote{}, err
	}
	if err := checkPlatform(reference.FamiliarString(named), parsed.Platform, o.Platform); err != nil {
		return Remote{}, err
	}
	return Remote{Digest: f.source, Manifest: f.desc.Digest, Config: config}, nil
}
