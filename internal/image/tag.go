package image

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
)

// Tag gives an image, or all that a name stands for, a further name. A name that another image had is taken from it.
func (s *Store) Tag(_ context.Context, source, target string) error {
	named, err := parseName(target)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return fmt.Errorf("refusing to create a tag with a digest reference: %w", errdefs.ErrInvalidArgument)
	}
	snap := s.catalog.snapshot()
	e, err := snap.find(source)
	if err != nil {
		return err
	}
	img, err := s.image(snap, e)
	if err != nil {
		return err
	}
	e.name, e.source, e.tagged = named.String(), "", time.Now()
	err = s.change(func(ed *editor) error {
		for _, p := range e.parts() {
			if !ed.has(p.id) {
				return fmt.Errorf("No such image: %s: %w", source, errdefs.ErrNotFound) //nolint:staticcheck // docker's words
			}
		}
		if i := ed.find(e.name); i >= 0 && ed.entries[i].id == e.id && ed.entries[i].samePlatforms(e) {
			ed.entries[i].tagged = e.tagged
			return nil
		}
		ed.put(e)
		return nil
	})
	if err != nil {
		return err
	}
	s.emit(events.ActionTag, img.ID.String(), reference.FamiliarString(named), img.Config.Config.Labels)
	return nil
}
