package build

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/image"
)

func formatAll(p ocispec.Platform) string { return platforms.FormatAll(p) }

// exportImage names the result in the image store, and pushes it if that is asked for.
func (j *job) exportImage(ctx context.Context, t *track, e Export, products []product, multi bool) (map[string]string, error) {
	a := attributes(e.Attrs)
	o, err := a.buildOptions(products, multi)
	if err != nil {
		return nil, err
	}
	push, err := a.flag("push", false)
	if err != nil {
		return nil, err
	}
	byDigest, err := a.flag("push-by-digest", false)
	if err != nil {
		return nil, err
	}
	store, err := a.flag("store", !byDigest)
	if err != nil {
		return nil, err
	}
	if push && len(o.Names) == 0 {
		return nil, fmt.Errorf("a push needs a name: %w", errdefs.ErrInvalidArgument)
	}
	var built *image.Built
	if store {
		if built, err = j.nameImage(ctx, t, o, products); err != nil {
			return nil, err
		}
	}
	if push {
		if built, err = j.pushImage(ctx, t, o, byDigest); err != nil {
			return nil, err
		}
	}
	if built == nil {
		return nil, fmt.Errorf("an image output that neither stores nor pushes: %w", errdefs.ErrInvalidArgument)
	}
	return told(built, o.Names)
}

// nameImage gives the result its names here.
func (j *job) nameImage(ctx context.Context, t *track, o image.BuildOptions, products []product) (built *image.Built, err error) {
	o.KeepStatements = !slices.ContainsFunc(products, func(p product) bool {
		return slices.ContainsFunc(p.Attestations, func(a attestation) bool { return !a.ImagesOnly })
	})
	err = t.part("exporting layers", func() error {
		built, err = j.b.cfg.Images.Build(ctx, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	_ = t.part("writing image "+built.Image.ID.String(), func() error { return nil })
	for _, name := range o.Names {
		_ = t.part("naming to "+name, func() error { return nil })
	}
	return built, nil
}

// pushImage sends the result to the registries of its names.
func (j *job) pushImage(ctx context.Context, t *track, o image.BuildOptions, byDigest bool) (built *image.Built, err error) {
	err = t.part("pushing "+strings.Join(o.Names, ", "), func() error {
		built, err = j.b.cfg.Images.PushBuild(ctx, image.PushBuildOptions{
			BuildOptions: o, ByDigest: byDigest,
			Auth: func(ctx context.Context, named reference.Named) (*apiregistry.AuthConfig, error) {
				return j.credentials(ctx, named)
			},
		})
		return err
	})
	return built, err
}
