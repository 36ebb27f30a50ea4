package build

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/image"
)

// exportArchive writes an OCI image layout, or one that docker load reads, into a tar at the client.
func (j *job) exportArchive(ctx context.Context, t *track, e Export, products []product, multi bool) (map[string]string, error) {
	a := attributes(e.Attrs)
	o, err := a.buildOptions(products, multi)
	if err != nil {
		return nil, err
	}
	docker := e.Type == "docker"
	if docker && (len(products) > 1) {
		return nil, fmt.Errorf("a docker output holds one platform; type=oci holds several: %w", errdefs.ErrInvalidArgument)
	}
	if docker {
		for i := range o.Images {
			o.Images[i].Attestations = nil
		}
	}
	asTar, err := a.flag("tar", true)
	if err != nil {
		return nil, err
	}
	if !asTar {
		return j.exportLayout(ctx, t, o)
	}
	w, err := j.req.Session.Output(ctx, e.ID, e.Attrs)
	if err != nil {
		return nil, err
	}
	var built *image.Built
	err = t.part("sending tarball", func() error {
		built, err = j.b.cfg.Images.WriteBuild(ctx, o, docker, w)
		return err
	})
	if err = errors.Join(err, finish(w, err)); err != nil {
		return nil, err
	}
	return told(built, o.Names)
}

// exportLayout puts an image into a content store at the client.
func (j *job) exportLayout(ctx context.Context, t *track, o image.BuildOptions) (map[string]string, error) {
	var built *image.Built
	err := t.part("exporting layout", func() (err error) {
		built, err = j.b.cfg.Images.PutBuild(ctx, o, func(d ocispec.Descriptor, r io.Reader) error {
			return j.req.Session.PutContent(ctx, "export", d.Digest.String(), d.Size, r)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return told(built, o.Names)
}
