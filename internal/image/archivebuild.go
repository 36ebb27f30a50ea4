package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
)

// WriteBuild makes images of layers and writes them as an OCI image layout in a tar; for docker with the description that
// docker load wants beside it. Nothing is named here.
func (s *Store) WriteBuild(ctx context.Context, o BuildOptions, docker bool, w io.Writer) (*Built, error) {
	return s.elsewhere(ctx, o, func(c *composition) error {
		plan, err := c.plan(&o, docker)
		if err != nil {
			return err
		}
		return s.writeArchive(ctx, plan, w)
	})
}

// PutBuild makes images of layers and gives each of their blobs to put, descriptions last, and the result's own description
// at the very end: for a content store of somebody else.
func (s *Store) PutBuild(ctx context.Context, o BuildOptions, put func(d ocispec.Descriptor, r io.Reader) error) (*Built, error) {
	return s.elsewhere(ctx, o, func(c *composition) error {
		plan, err := c.plan(&o, false)
		if err != nil {
			return err
		}
		descriptions := len(c.blobs)
		for _, d := range slices.Concat(plan.blobs[descriptions:], plan.blobs[:descriptions]) {
			if err := s.putElsewhere(ctx, d, put); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) putElsewhere(ctx context.Context, d ocispec.Descriptor, put func(ocispec.Descriptor, io.Reader) error) error {
	r, err := s.openBlob(ctx, d)
	if err != nil {
		return err
	}
	return errors.Join(put(d, r), r.Close())
}

// elsewhere makes a build's blobs, has them used, and forgets them.
func (s *Store) elsewhere(ctx context.Context, o BuildOptions, use func(*composition) error) (*Built, error) {
	o.Stored = true
	c, err := s.compose(ctx, &o)
	if err == nil {
		err = use(c)
		c.release()
	}
	if err != nil {
		s.tidy(err, nil)
		return nil, fmt.Errorf("export: %w", content.ExplainFull(s.content.Dir(), err))
	}
	if _, err := s.collect(ctx); err != nil {
		return nil, err
	}
	return &c.built, nil
}

// plan lists what an archive holds: descriptions first, then layers, each once.
func (c *composition) plan(o *BuildOptions, docker bool) (*saving, error) {
	names, err := buildNames(o.Names)
	if err != nil {
		return nil, err
	}
	p := &saving{seen: digests{}, index: ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
	}}
	for _, n := range names {
		p.index.Manifests = append(p.index.Manifests, c.named(o, n.String()))
	}
	if len(names) == 0 {
		p.index.Manifests = append(p.index.Manifests, c.named(o, ""))
	}
	for _, d := range c.blobs {
		p.add(d)
	}
	for _, list := range c.layers {
		for _, d := range list {
			p.add(d)
		}
	}
	if !docker {
		return p, nil
	}
	i := native(o.Images)
	a := archived{Config: blobName(c.built.Configs[i]), RepoTags: []string{}, Layers: []string{}}
	for _, n := range names {
		a.RepoTags = append(a.RepoTags, reference.FamiliarString(n))
	}
	for _, d := range c.layers[i] {
		a.Layers = append(a.Layers, blobName(d.Digest))
	}
	p.docker = []archived{a}
	return p, nil
}

// named is the entry of a layout's index.json for the result.
func (c *composition) named(o *BuildOptions, full string) ocispec.Descriptor {
	d := c.built.Top
	d.Annotations = maps.Clone(o.Images[0].DescriptorAnnotations)
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	if at := o.Images[0].Epoch; at != nil {
		d.Annotations[ocispec.AnnotationCreated] = at.UTC().Format(time.RFC3339)
	}
	if full != "" {
		d.Annotations[annotationImage], d.Annotations[annotationName] = full, strings.TrimPrefix(full, repository(full)+":")
	}
	if len(d.Annotations) == 0 {
		d.Annotations = nil
	}
	return d
}
