package move

import (
	"context"
	"io"

	"github.com/kistdev/kist/internal/volume"
)

// takeVolume takes a volume in.
func (r *receiving) takeVolume(ctx context.Context, o *volumeOffer) error {
	p := volume.Placing{Name: o.Name, Labels: o.Labels, Options: o.Options, Replace: o.Replace}
	if err := r.Volumes.MayPlace(p); err != nil {
		return err
	}
	if err := r.roomFor(o.Size); err != nil {
		return err
	}
	r.volume = o.Name
	if err := r.wire.say(&message{OK: true}); err != nil {
		return err
	}
	var err error
	if o.Mounted {
		err = r.Volumes.Place(ctx, p, nil)
	} else {
		err = r.tar(ctx, func(ctx context.Context, tar io.Reader) error { return r.Volumes.Place(ctx, p, tar) })
	}
	if err != nil {
		return r.explainFull(err)
	}
	r.placed = append(r.placed, o.Name)
	return r.wire.say(&message{Done: &done{ID: o.Name}})
}
