package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/fileop"
)

// layout is an image in a content store of the client.
type layout struct {
	config []byte
	diffs  []digest.Digest
	blobs  []ocispec.Descriptor
}

// layoutOp is FROM an OCI layout of the client.
type layoutOp struct {
	j     *job
	v     *vertex
	ref   string
	store string
	found *layout
}

func (o *layoutOp) key(ctx context.Context, _ *track, _ []result) (k cacheKey, err error) {
	if o.found, err = o.j.layout(ctx, o.store, o.ref, platformOf(o.v.op)); err != nil {
		return k, err
	}
	k.cached = o.j.hold.Take(o.found.diffs...)
	return k, nil
}

func (o *layoutOp) run(ctx context.Context, _ *track, _ []result) ([]result, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, id := range o.found.diffs {
		if o.j.hold.Take(id) {
			continue
		}
		g.Go(func() error {
			d := o.found.blobs[i]
			r, err := o.j.req.Session.Content(ctx, ociStore+o.store, d.Digest.String())
			if err != nil {
				return err
			}
			err = o.j.b.cfg.Images.PutLayer(ctx, id, d, r, o.j.hold)
			return errors.Join(err, r.Close())
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if !o.j.hold.Take(o.found.diffs...) {
		return nil, fmt.Errorf("the layers of %s are gone: %w", o.ref, errdefs.ErrUnavailable)
	}
	return []result{{Source: fileop.Source{Layers: o.found.diffs}}}, nil
}

// ociStore is before the names of stores for contexts.
const ociStore = "oci:"

// layout reads the descriptions of an image.
func (j *job) layout(ctx context.Context, store, ref string, platform ocispec.Platform) (*layout, error) {
	if j.req.Session == nil {
		return nil, fmt.Errorf("there is no client to ask for %s: %w", ref, errdefs.ErrFailedPrecondition)
	}
	_, text, ok := strings.Cut(ref, "@")
	if !ok {
		return nil, fmt.Errorf("%s has no digest: %w", ref, errdefs.ErrInvalidArgument)
	}
	read := func(d string) ([]byte, error) {
		r, err := j.req.Session.Content(ctx, ociStore+store, d)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(io.LimitReader(r, maxRead))
		return raw, errors.Join(err, r.Close())
	}
	d := digest.Digest(text)
	for range 4 {
		raw, err := verified(d, read)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
		var m struct {
			Manifests []ocispec.Descriptor `json:"manifests"`
			Config    ocispec.Descriptor   `json:"config"`
			Layers    []ocispec.Descriptor `json:"layers"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("read %s: %w: %w", ref, err, errdefs.ErrInvalidArgument)
		}
		if len(m.Manifests) > 0 {
			if d, err = pick(m.Manifests, platform); err != nil {
				return nil, fmt.Errorf("%s: %w", ref, err)
			}
			continue
		}
		l := &layout{blobs: m.Layers}
		if l.config, err = verified(m.Config.Digest, read); err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
		var c ocispec.Image
		if err := json.Unmarshal(l.config, &c); err != nil || len(c.RootFS.DiffIDs) != len(m.Layers) {
			return nil, fmt.Errorf("the configuration of %s does not fit its layers: %w", ref, errdefs.ErrInvalidArgument)
		}
		l.diffs = c.RootFS.DiffIDs
		return l, nil
	}
	return nil, fmt.Errorf("the indexes of %s are nested too deeply: %w", ref, errdefs.ErrInvalidArgument)
}

// pick finds the image for a platform in an index.
func pick(list []ocispec.Descriptor, platform ocispec.Platform) (digest.Digest, error) {
	match := platforms.Only(platform)
	var best *ocispec.Descriptor
	for i, d := range list {
		switch {
		case d.Platform == nil && len(list) == 1:
			return d.Digest, nil
		case d.Platform == nil || !match.Match(*d.Platform):
		case best == nil || match.Less(*d.Platform, *best.Platform):
			best = &list[i]
		}
	}
	if best == nil {
		return "", fmt.Errorf("it has no image for %s: %w", platforms.Format(platform), errdefs.ErrNotFound)
	}
	return best.Digest, nil
}

// storeOf is the name of the content store of an OCI layout source.
func storeOf(ref string, attrs map[string]string) string {
	if id := attrs[pb.AttrOCILayoutStoreID]; id != "" {
		return id
	}
	name, _, _ := strings.Cut(ref, "@")
	return name
}
