package move

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/movemsg"
)

func (s *sending) moveImage(ctx context.Context, req *movemsg.Request) (*movemsg.Result, error) {
	names := []image.MovedName(nil)
	if req.NewName != "" {
		names = []image.MovedName{{Name: req.NewName}}
	}
	all, err := s.Images.All(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	moved, group, err := s.others(ctx, req.Name, all)
	if err != nil {
		return nil, err
	}
	s.noteArchitecture(moved)
	d, err := s.image(ctx, req.Name, names, false, group)
	if err != nil {
		return nil, err
	}
	r := &movemsg.Result{ID: d.ID}
	if req.Remove {
		var only []ocispec.Platform // none means all
		if len(moved) < len(all) {
			only = append(only, moved[0].Config.Platform)
		}
		if _, err := s.Images.RemovePlatforms(ctx, req.Name, only, false, false); err != nil {
			return nil, fmt.Errorf("it is there, but cannot be removed here: %w", err)
		}
		r.Gone = len(moved) == len(all)
	}
	return r, nil
}

// others sends the images for other platforms, which get no name until the first one comes. It returns those that are moved with
// the first one, and what joins them.
func (s *sending) others(ctx context.Context, name string, all []*image.Image) (moved []*image.Image, group *image.Group, err error) {
	if !s.there.Several {
		if len(all) > 1 {
			s.note(fmt.Sprintf("only the image for %s is moved: the kist there keeps one platform under a name", platform(all[0])))
		}
		return all[:1], nil, nil
	}
	for _, img := range all[1:] {
		if _, err := s.image(ctx, img.ID.String(), []image.MovedName{}, true, nil); err != nil {
			return nil, nil, fmt.Errorf("the image for %s: %w", platform(img), err)
		}
	}
	group, err = s.Images.Group(ctx, name)
	return all, group, err
}

// noteArchitecture says so if none of the images can run there.
func (s *sending) noteArchitecture(all []*image.Image) {
	for _, img := range all {
		if a := img.Config.Architecture; a == "" || a == s.there.Arch {
			return
		}
	}
	s.note(fmt.Sprintf("the image is for %s, the host there is %s: it cannot run there", all[0].Config.Architecture, s.there.Arch))
}

func platform(img *image.Image) string { return platforms.Format(img.Config.Platform) }

// image sends an image, under its own names unless others are given.
func (s *sending) image(ctx context.Context, ref string, names []image.MovedName, modest bool, group *image.Group) (*done, error) {
	out, err := s.Images.Outgoing(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if names == nil {
		names = out.Names
	}
	offer := &imageOffer{
		Config: out.Config, Manifest: out.Manifest, ManifestType: out.Image.Manifest.MediaType, Names: names, Layers: out.Layers, Modest: modest, Group: group,
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
