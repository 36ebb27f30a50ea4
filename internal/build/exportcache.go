package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/image"
)

// inlineCache puts the records of the products' own layers into their configurations, if that was asked for.
func (j *job) inlineCache(products []product) error {
	if !slices.ContainsFunc(j.req.CacheTo, func(o CacheOption) bool { return o.Type == "inline" }) {
		return nil
	}
	for i := range products {
		raw, _, err := j.cacheOf(func(d digest.Digest) bool { return slices.Contains(products[i].Layers, d) })
		if err != nil {
			return err
		}
		products[i].InlineCache = raw
	}
	return nil
}

// exportCaches writes caches to where the client wants them.
func (j *job) exportCaches(products []product, resp *Response) error {
	for _, o := range j.req.CacheTo {
		var write func(context.Context, *track, CacheOption, image.BuildOptions, *Response) error
		switch o.Type {
		case "inline":
			continue
		case "registry":
			write = j.cacheToRegistry
		case "local":
			write = j.cacheToLocal
		default:
			return fmt.Errorf("caches of type %q: %w", o.Type, errdefs.ErrNotImplemented)
		}
		t := j.progress.internal("exporting cache to " + o.Type)
		options, err := j.cacheImage(o, products)
		if err == nil {
			err = t.part("writing cache manifest", func() error { return write(j.ctx, t, o, options, resp) })
		}
		t.end(err)
		if ignore, _ := strconv.ParseBool(o.Attrs["ignore-error"]); err != nil && !ignore {
			return err
		}
	}
	return nil
}

// cacheImage is the image that carries a cache: of all steps, or of those whose layers are in the result.
func (j *job) cacheImage(o CacheOption, products []product) (image.BuildOptions, error) {
	var options image.BuildOptions
	want := func(digest.Digest) bool { return true }
	switch o.Attrs["mode"] {
	case "max":
	case "", "min":
		want = func(d digest.Digest) bool {
			return slices.ContainsFunc(products, func(p product) bool { return slices.Contains(p.Layers, d) })
		}
	default:
		return options, fmt.Errorf("mode=%s: there are min and max: %w", o.Attrs["mode"], errdefs.ErrInvalidArgument)
	}
	raw, layers, err := j.cacheOf(want)
	if err != nil {
		return options, err
	}
	options.Compression.Type = o.Attrs["compression"]
	if level := o.Attrs["compression-level"]; level != "" {
		n, err := strconv.Atoi(level)
		if err != nil {
			return options, fmt.Errorf("compression-level=%s: %w", level, errdefs.ErrInvalidArgument)
		}
		options.Compression.Level = &n
	}
	options.Compression.Force, _ = strconv.ParseBool(o.Attrs["force-compression"])
	options.Images = []image.BuildImage{{
		Platform: ocispec.Platform{OS: "linux", Architecture: "unknown"}, Config: []byte("{}"), Layers: layers, InlineCache: raw,
		Annotations: map[string]string{"dev.kist.cache": "1"},
	}}
	return options, nil
}

func (j *job) cacheToRegistry(ctx context.Context, _ *track, o CacheOption, options image.BuildOptions, _ *Response) error {
	named, err := reference.ParseNormalizedNamed(o.Attrs["ref"])
	if err != nil {
		return fmt.Errorf("ref=%s: %w: %w", o.Attrs["ref"], err, errdefs.ErrInvalidArgument)
	}
	options.Names = []string{reference.TagNameOnly(named).String()}
	_, err = j.b.cfg.Images.PushBuild(ctx, image.PushBuildOptions{
		BuildOptions: options,
		Auth: func(ctx context.Context, named reference.Named) (*apiregistry.AuthConfig, error) {
			return j.credentials(ctx, named)
		},
	})
	return err
}

// cacheToLocal writes an OCI layout at the client. The index comes last: it names what is complete.
func (j *job) cacheToLocal(ctx context.Context, _ *track, o CacheOption, options image.BuildOptions, resp *Response) error {
	if j.req.Session == nil {
		return fmt.Errorf("there is no client to write %s: %w", o.Attrs["dest"], errdefs.ErrFailedPrecondition)
	}
	store := "local:" + o.Attrs["dest"]
	put := func(name string, size int64, r io.Reader) error {
		return j.req.Session.PutContent(ctx, store, name, size, r)
	}
	built, err := j.b.cfg.Images.PutBuild(ctx, options, func(d ocispec.Descriptor, r io.Reader) error {
		return put(d.Digest.String(), d.Size, r)
	})
	if err != nil {
		return err
	}
	top, err := json.Marshal(built.Top)
	if err != nil {
		return err
	}
	resp.Exporter["cache.manifest"] = string(top)
	tag := o.Attrs["tag"]
	if tag == "" {
		tag = "latest"
	}
	d := built.Top
	d.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{d},
	})
	if err != nil {
		return err
	}
	err = put("", int64(len(index)), bytes.NewReader(index))
	if errors.Is(err, errdefs.ErrNotImplemented) {
		return nil // This client writes it by itself.
	}
	return err
}
