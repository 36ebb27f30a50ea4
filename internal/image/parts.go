package image

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/registry"
)

// Parts is what a registry has under a name, to be taken piece by piece. It must be closed.
type Parts struct {
	// Images are all images under the name, whatever their platforms.
	Images []Part
	repo   *registry.Repository
	wg     sync.WaitGroup
}

// Part is one image: its configuration and its layers' blobs.
type Part struct {
	Config []byte
	Layers []ocispec.Descriptor
}

// Parts asks a registry what is under a name.
func (s *Store) Parts(ctx context.Context, ref string, o PullOptions) (*Parts, error) {
	named, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	repo, err := s.client.Repository(ctx, named, o.Auth)
	if err != nil {
		return nil, err
	}
	all := &Parts{repo: repo}
	p := &pull{s: s, repo: repo, named: named, o: o}
	if err := all.collect(ctx, p.reference(), 0); err != nil {
		repo.Close()
		return nil, fmt.Errorf("look at %s: %w", reference.FamiliarString(named), err)
	}
	return all, nil
}

func (a *Parts) collect(ctx context.Context, ref string, depth int) error {
	d, raw, err := a.repo.Manifest(ctx, ref)
	if err != nil {
		return err
	}
	if d.MediaType, err = kindOf(d.MediaType, raw); err != nil {
		return err
	}
	if isIndex(d.MediaType) {
		index, err := parseIndex(raw)
		if err != nil {
			return err
		}
		if depth > 2 {
			return notAnImage("its indexes are nested too deeply")
		}
		for _, m := range index.Manifests {
			if m.Annotations[referenceType] != "" {
				continue // It is about another one.
			}
			if err := a.collect(ctx, m.Digest.String(), depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	m, err := parseManifest(raw)
	if err != nil {
		return err
	}
	config, err := a.repo.Blob(ctx, m.Config, configLimit)
	if err != nil {
		return err
	}
	a.Images = append(a.Images, Part{Config: config, Layers: m.Layers})
	return nil
}

// Open reads a blob while it is fetched. What is read is not verified.
func (a *Parts) Open(ctx context.Context, d ocispec.Descriptor) io.ReadCloser {
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	a.wg.Go(func() {
		defer close(done)
		w.CloseWithError(a.repo.Download(ctx, d, 0, w))
	})
	return &tarReader{r, cancel, done}
}

// Close ends the session with the registry.
func (a *Parts) Close() {
	a.wg.Wait()
	a.repo.Close()
}
