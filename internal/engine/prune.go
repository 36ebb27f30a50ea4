package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/filter"
)

// PruneContainers removes the containers that do not run.
func (e *Engine) PruneContainers(ctx context.Context, f filter.Args) (docker.PruneReport, error) {
	r := docker.PruneReport{ContainersDeleted: []string{}}
	if err := f.Validate("label", "label!", "until"); err != nil {
		return r, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return r, err
	}
	for _, n := range e.entries() {
		if n.st.Phase != exited && n.st.Phase != created || !until.IsZero() && !n.def.Created.Before(until) {
			continue
		}
		if !f.Labels("label", n.def.Config.Labels) || f.Has("label!") && f.Labels("label!", n.def.Config.Labels) {
			continue
		}
		size, _, err := e.size(ctx, n.def)
		if err != nil {
			return r, err
		}
		err = e.Remove(ctx, n.def.ID, RemoveOptions{})
		switch {
		case err == nil:
			r.ContainersDeleted = append(r.ContainersDeleted, n.def.ID)
			r.SpaceReclaimed += uint64(size)
		case errdefs.IsConflict(err), errdefs.IsNotFound(err): // Started or removed meanwhile.
		default:
			return r, err
		}
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
	}
	e.cfg.Events.Emit(events.ContainerEventType, events.ActionPrune, "", map[string]string{
		"reclaimed": strconv.FormatUint(r.SpaceReclaimed, 10),
	})
	return r, nil
}
