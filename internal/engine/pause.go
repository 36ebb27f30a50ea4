package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/fault"
)

// Pause freezes all processes of the container.
func (e *Engine) Pause(ctx context.Context, name string) error {
	c, release, err := e.hold(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	d, st := c.look()
	switch st.Phase {
	case running:
	case paused:
		return fmt.Errorf("Container %s is already paused: %w", d.Name, errdefs.ErrConflict) //nolint:staticcheck // docker's words
	case restarting:
		return fmt.Errorf("Container %s is restarting, wait until the container is running: %w", d.Name, errdefs.ErrConflict) //nolint:staticcheck // docker's words
	default:
		return notRunning(c)
	}
	g, err := cgroup.Load(st.Cgroup)
	if err != nil {
		return err
	}
	// The row first: after a crash in between, unpause must be allowed.
	if st, err = c.enter(paused, nil); err != nil {
		return err
	}
	err = e.ledger.note(d, st)
	if err == nil {
		err = g.Freeze(ctx)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot pause container %s: %w", c.id, err), e.thaw(ctx, c))
	}
	e.emit(c, events.ActionPause, nil)
	return nil
}

// Unpause lets them go on.
func (e *Engine) Unpause(ctx context.Context, name string) error {
	c, release, err := e.hold(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	if d, st := c.look(); st.Phase != paused {
		return &fault.Error{Code: "container-not-paused", What: "Container " + d.Name + " is not paused", Try: "kist pause " + d.Name, Class: errdefs.ErrConflict}
	}
	if err := e.thaw(ctx, c); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", c.id, err)
	}
	return nil
}

// thaw is Unpause with the lock held.
func (e *Engine) thaw(ctx context.Context, c *container) error {
	d, st := c.look()
	g, err := cgroup.Load(st.Cgroup)
	if err != nil {
		return err
	}
	if err := g.Thaw(ctx); err != nil {
		return err
	}
	if st, err = c.enter(running, nil); err != nil {
		return err
	}
	e.emit(c, events.ActionUnPause, nil)
	return e.ledger.note(d, st)
}
