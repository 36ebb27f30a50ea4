package build

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/image"
)

// product is what a build made for one platform.
type product struct {
	// ID of the platform in the result ("linux/amd64").
	ID       string
	Platform ocispec.Platform
	// Layers are diff ids, the lowest first; the job holds them.
	Layers []digest.Digest
	// Config is the image's configuration without root file system and history's layers; empty if the frontend gave none.
	Config []byte
	// Base is the configuration of the image that it was made from, if it was made from one.
	Base []byte
	// Epoch is SOURCE_DATE_EPOCH.
	Epoch *time.Time
	// Attestations are statements about the product.
	Attestations []attestation
	// InlineCache goes into the configuration, if it was asked for.
	InlineCache []byte
}

// attestation is an in-toto statement about a product.
type attestation struct {
	image.Attestation
	// File is the name that exports of files give it ("provenance.json").
	File string
	// ImagesOnly says that exports of files leave it out.
	ImagesOnly bool
}

// export makes all that the client asked for of the result.
func (j *job) export(res *gwclient.Result, resp *Response) error {
	if len(j.req.Exports) == 0 && len(j.req.CacheTo) == 0 {
		return nil
	}
	products, multi, err := j.products(res)
	if err != nil {
		return err
	}
	if err := j.inlineCache(products); err != nil {
		return err
	}
	for _, e := range j.req.Exports {
		done, err := j.exportOne(j.ctx, e, products, multi)
		if err != nil {
			return err
		}
		maps.Copy(resp.Exporter, done)
	}
	return j.exportCaches(products, resp)
}

// exporter makes one kind of thing, and returns what clients are told about it.
type exporter func(ctx context.Context, t *track, e Export, products []product, multi bool) (map[string]string, error)

func (j *job) exportOne(ctx context.Context, e Export, products []product, multi bool) (done map[string]string, err error) {
	var make exporter
	var name string
	switch e.Type {
	case "image", "moby":
		name, make = "exporting to image", j.exportImage
	case "docker", "oci":
		name, make = "exporting to "+e.Type+" image format", j.exportArchive
	case "tar":
		name, make = "exporting to client tarball", j.exportTar
	case "local":
		name, make = "exporting to client directory", j.exportLocal
	default:
		return nil, fmt.Errorf("outputs of type %q: %w", e.Type, errdefs.ErrNotImplemented)
	}
	t := j.progress.internal(name)
	defer func() { t.end(err) }()
	return make(ctx, t, e, products, multi)
}

// products are the results by platform. multi says that the client wants an index, even of one.
func (j *job) products(res *gwclient.Result) (all []product, multi bool, err error) {
	ps, err := exptypes.ParsePlatforms(res.Metadata)
	if err != nil {
		return nil, false, fmt.Errorf("the frontend's result: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	for _, p := range ps.Platforms {
		one := product{
			ID: p.ID, Platform: p.Platform, Config: exptypes.ParseKey(res.Metadata, exptypes.ExporterImageConfigKey, &p),
		}
		one.Base = exptypes.ParseKey(res.Metadata, exptypes.ExporterImageBaseConfigKey, &p)
		if raw := exptypes.ParseKey(res.Metadata, commonexptypes.ExporterEpochKey, &p); len(raw) > 0 {
			seconds, err := strconv.ParseInt(string(raw), 10, 64)
			if err != nil {
				return nil, false, fmt.Errorf("SOURCE_DATE_EPOCH %q: %w: %w", raw, err, errdefs.ErrInvalidArgument)
			}
			at := time.Unix(seconds, 0).UTC()
			one.Epoch = &at
		}
		ref, ok := res.FindRef(p.ID)
		if !ok {
			return nil, false, fmt.Errorf("the frontend made nothing for %s: %w", p.ID, errdefs.ErrInvalidArgument)
		}
		if own, is := ref.(*Reference); is && own != nil {
			tree, err := j.solve(j.ctx, own.edge)
			if err != nil {
				return nil, false, err
			}
			if one.Layers, err = j.layers(j.ctx, tree); err != nil {
				return nil, false, err
			}
		}
		own, _ := ref.(*Reference)
		if err := j.attest(&one, own, res.Attestations[p.ID]); err != nil {
			return nil, false, err
		}
		all = append(all, one)
	}
	return all, len(res.Refs) > 0, nil
}

// finish ends an output: one that is not whole shall not look as if it were.
func finish(w io.WriteCloser, err error) error {
	if a, ok := w.(interface{ Abort() error }); ok && err != nil {
		return a.Abort()
	}
	return w.Close()
}
