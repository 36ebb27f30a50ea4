package image

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
)

// Tag gives an image a further name. A name that another image had is taken from it.
func (s *Store) Tag(ctx context.Context, source, target string) error {
	named, err := parseName(target)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return fmt.Errorf("refusing to create a tag with a digest reference: %w", errdefs.ErrInvalidArgument)
	}
	img, err := s.Get(ctx, source)
	if err != nil {
		return err
	}
	err = s.change(func(ed *editor) error {
		if !ed.has(img.ID) {
			return fmt.Errorf("No such image: %s: %w", source, errdefs.ErrNotFound) //nolint:staticcheck // docker's words
		}
		if i := ed.find(named.String()); i >= 0 && ed.entries[i].id == img.ID {
			ed.entries[i].tagged = time.Now()
			return nil
		}
		ed.put(entry{name: named.String(), id: img.ID, desc: img.Manifest, tagged: time.Now()})
		return nil
	})
	if err != nil {
		return err
	}
	s.emit(events.ActionTag, img.ID.String(), reference.FamiliarString(named), img.Config.Config.Labels)
	return nil
}
