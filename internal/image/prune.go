package image

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"

	"github.com/kistdev/kist/internal/filter"
)

// Prune removes dangling images (or, with dangling=false, all unused ones).
func (s *Store) Prune(ctx context.Context, f filter.Args) (image.PruneReport, error) {
	report := image.PruneReport{ImagesDeleted: []image.DeleteResponse{}}
	if err := f.Validate("dangling", "label", "label!", "until"); err != nil {
		return report, err
	}
	dangling, err := f.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return report, err
	}
	rm := &removal{s: s, users: s.inUse()}
	err = s.change(func(ed *editor) error {
		rm.ed = ed
		s.pruneEntries(rm, f, dangling, until)
		if len(rm.list) == 0 {
			return errUnchanged
		}
		return nil
	})
	if err != nil {
		return report, err
	}
	rm.tell()
	won, err := s.collect(ctx)
	if rm.list != nil {
		report.ImagesDeleted = rm.list
	}
	report.SpaceReclaimed = uint64(max(won, 0))
	s.events.Emit(events.ImageEventType, events.ActionPrune, "", map[string]string{"reclaimed": fmt.Sprint(won)})
	return report, err
}

func (s *Store) pruneEntries(rm *removal, f filter.Args, dangling bool, until time.Time) {
	snap := newSnapshot(append([]entry(nil), rm.ed.entries...), nil)
	for _, id := range snap.ids {
		list := snap.of(id)
		names := snap.names(id)
		tags, _ := tagsAndDigests(names)
		used := func(p part) bool { return len(rm.users[p.id]) > 0 }
		if slices.ContainsFunc(snap.together(id), used) || dangling && len(tags) > 0 {
			continue
		}
		r, err := s.record(list[0].desc)
		if err == nil && !prunable(r, f, until) {
			continue
		}
		if err == nil {
			rm.labels = r.config.Config.Labels
		}
		if len(newSnapshot(rm.ed.entries, nil).children(id)) > 0 && len(names) == 0 {
			continue // It goes when its last child goes.
		}
		for _, n := range names {
			rm.untag(n, id)
		}
		rm.drop(id, false)
		rm.dropOthers(entry{id: id, others: snap.together(id)}, false)
	}
}

// prunable says whether the filters let an image go.
func prunable(r *record, f filter.Args, until time.Time) bool {
	labels := r.config.Config.Labels
	if !f.Labels("label", labels) || f.Has("label!") && f.Labels("label!", labels) {
		return false
	}
	created := r.config.Created
	return until.IsZero() || created == nil || created.Before(until)
}
