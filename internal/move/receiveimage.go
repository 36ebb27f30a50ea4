package move

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/image"
)

// maxLayers is more than an image can have.
const maxLayers = 1000

// image takes an image in.
func (r *receiving) image(ctx context.Context, o *imageOffer) (err error) {
	if len(o.Layers) > maxLayers {
		return fmt.Errorf("an image of %d layers: %w", len(o.Layers), errdefs.ErrInvalidArgument)
	}
	in := r.Images.Incoming(ctx)
	defer func() { err = errors.Join(err, in.Close()) }()
	wants, lacking := make([]want, len(o.Layers)), int64(0)
	for i := range o.Layers {
		l := &o.Layers[i]
		if err := checkLayer(l); err != nil {
			return err
		}
		switch {
		case in.Has(l):
			wants[i] = wantNot
		case l.Plain || l.Made:
			wants[i] = wantTar
			lacking += l.Blob.Size
		default:
			wants[i] = wantBlob
			lacking += l.Blob.Size + l.Size
		}
	}
	if err := r.roomFor(lacking); err != nil {
		return err
	}
	r.relatives(ctx, o)
	if err := r.wire.say(&message{Wants: wants}); err != nil {
		return err
	}
	for i, w := range wants {
		if err := r.layer(ctx, in, &o.Layers[i], w); err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(wants), r.explainFull(err))
		}
	}
	m, err := r.hear(ctx)
	if err != nil {
		return err
	}
	if !m.Publish {
		return fmt.Errorf("the other daemon does not say that the image is complete: %w", errdefs.ErrInvalidArgument)
	}
	img, err := in.Publish(ctx, image.Published{
		Config: o.Config, Manifest: o.Manifest, ManifestType: o.ManifestType, Names: r.names(ctx, o), Layers: o.Layers, Group: o.Group,
	})
	if err != nil {
		return err
	}
	return r.wire.say(&message{Done: &done{ID: img.ID.String()}})
}

func checkLayer(l *image.OutgoingLayer) error {
	if err := errors.Join(l.DiffID.Validate(), l.Blob.Digest.Validate()); err != nil {
		return fmt.Errorf("a layer: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if l.Blob.Size < 0 || l.Size < 0 {
		return fmt.Errorf("a layer of %d bytes: %w", l.Blob.Size, errdefs.ErrInvalidArgument)
	}
	return nil
}

// names are those that the image may have here.
func (r *receiving) names(ctx context.Context, o *imageOffer) []image.MovedName {
	if !o.Modest {
		return o.Names
	}
	id := digest.FromBytes(o.Config)
	var free []image.MovedName
	for _, n := range o.Names {
		other, err := r.Images.Get(ctx, n.Name)
		if errdefs.IsNotFound(err) || err == nil && other.ID == id {
			free = append(free, n)
		}
	}
	return free
}

// relatives finds the layers of images that are called alike: most likely older versions. What the image has of them itself is
// not sent anyway, and hardly ever is in another layer too.
func (r *receiving) relatives(ctx context.Context, o *imageOffer) {
	for _, l := range o.Layers {
		r.skip[l.DiffID] = true
	}
	for _, n := range o.Names {
		r.prefer = append(r.prefer, r.Images.Relatives(ctx, n.Name)...)
	}
}

func (r *receiving) layer(ctx context.Context, in *image.Incoming, l *image.OutgoingLayer, w want) error {
	switch w {
	case wantBlob:
		return in.Blob(ctx, l, func(offset int64) (io.Reader, error) {
			if err := r.wire.say(&message{From: &offset}); err != nil {
				return nil, err
			}
			return &blobReader{r: r, ctx: ctx}, nil
		})
	case wantTar:
		return r.tar(ctx, func(ctx context.Context, tar io.Reader) error { return in.Tar(ctx, l, tar) })
	}
	return nil
}

// blobReader reads a blob's frames to their end.
type blobReader struct {
	r    *receiving
	ctx  context.Context //nolint:containedctx // lives as long as the one blob
	rest []byte
	done bool
}

func (b *blobReader) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.done {
			return 0, io.EOF
		}
		k, data, err := b.r.next(b.ctx)
		switch {
		case err != nil:
			return 0, err
		case k == kindEnd:
			b.done = true
		case k == kindBlob:
			b.rest = data
		default:
			return 0, unexpected(k)
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
