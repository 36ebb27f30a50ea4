package move

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/movemsg"
)

func (s *sending) moveImage(ctx context.Context, req *movemsg.Request) (*movemsg.Result, error) {
	names := []image.MovedName(nil)
	if req.NewName != "" {
		names = []image.MovedName{{Name: req.NewName}}
	}
	d, err := s.image(ctx, req.Name, names, false)
	if err != nil {
		return nil, err
	}
	r := &movemsg.Result{ID: d.ID}
	if req.Remove {
		if _, err := s.Images.Remove(ctx, req.Name, false, false); err != nil {
			return nil, fmt.Errorf("it is there, but cannot be removed here: %w", err)
		}
		r.Gone = true
	}
	return r, nil
}

// image sends an image, under its own names unless others are given.
func (s *sending) image(ctx context.Context, ref string, names []image.MovedName, modest bool) (*done, error) {
	out, err := s.Images.Outgoing(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if names == nil {
		names = out.Names
	}
	c := out.Image.Config
	if !modest && c.Architecture != "" && c.Architecture != s.there.Arch {
		s.note(fmt.Sprintf("the image is for %s, the host there is %s: it cannot run there", c.Architecture, s.there.Arch))
	}
	offer := &imageOffer{
		Config: out.Config, Manifest: out.Manifest, ManifestType: out.Image.Manifest.MediaType, Names: names, Layers: out.Layers, Modest: modest,
	}
	if err := s.say(ctx, &message{Image: offer}); err != nil {
		return nil, err
	}
	m, err := s.hear(ctx)
	if err != nil {
		return nil, err
	}
	if len(m.Wants) != len(out.Layers) {
		return nil, fmt.Errorf("the other daemon answers for %d layers of %d: %w", len(m.Wants), len(out.Layers), errdefs.ErrInvalidArgument)
	}
	for i, w := range m.Wants {
		item := fmt.Sprintf("layer %d of %d", i+1, len(out.Layers))
		if err := s.layer(ctx, out, &out.Layers[i], w, item); err != nil {
			return nil, err
		}
	}
	if err := s.say(ctx, &message{Publish: true}); err != nil {
		return nil, err
	}
	s.report(movemsg.Line{Item: "image", Doing: "unpacked there"})
	return s.done(ctx)
}

func (s *sending) layer(ctx context.Context, out *image.Outgoing, l *image.OutgoingLayer, w want, item string) error {
	size := l.Blob.Size
	switch w {
	case wantNot:
		s.size += size
		return nil
	case wantBlob:
		s.size += size
		return s.blob(ctx, out, l, item)
	case wantTar:
		return s.tar(ctx, item, size, func(ctx context.Context) (io.ReadCloser, error) { return out.Tar(ctx, l) })
	}
	return fmt.Errorf("the other daemon wants a layer as %q: %w", w, errdefs.ErrInvalidArgument)
}

// blob sends a stored blob from where the receiver has it.
func (s *sending) blob(ctx context.Context, out *image.Outgoing, l *image.OutgoingLayer, item string) error {
	m, err := s.hear(ctx)
	if err != nil {
		return err
	}
	if m.From == nil || *m.From < 0 || *m.From > l.Blob.Size {
		return fmt.Errorf("the other daemon wants a blob from a place that it does not have: %w", errdefs.ErrInvalidArgument)
	}
	r, err := out.Blob(l, *m.From)
	if err != nil {
		return err
	}
	defer r.Close()
	meter := s.meter(item, "sending", l.Blob.Size-*m.From)
	b := make([]byte, batchSize)
	for {
		n, err := io.ReadFull(r, b)
		if errors.Is(err, io.EOF) {
			return s.wireEnd()
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := s.wire.write(kindBlob, b[:n]); err != nil {
			return err
		}
		meter.add(n)
	}
}
