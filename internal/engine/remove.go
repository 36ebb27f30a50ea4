package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/fault"
)

// RemoveOptions for Remove.
type RemoveOptions struct{ Force, Volumes bool }

// Remove removes a container; with Force one that runs, too.
func (e *Engine) Remove(ctx context.Context, name string, o RemoveOptions) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	for {
		if err := c.op.acquire(ctx); err != nil {
			return err
		}
		d, st := c.look()
		if st.Phase == removing {
			c.op.release()
			return nil // It removed itself.
		}
		if !st.Phase.alive() && (st.Phase != restarting || o.Force) {
			err := e.remove(ctx, c, o.Volumes)
			c.op.release()
			return err
		}
		if !o.Force {
			c.op.release()
			return stillRunning(d, st)
		}
		over, _ := c.signals()
		c.change(func(s *state) { s.Stopped = true })
		err := e.signal(ctx, c, syscall.SIGKILL)
		c.op.release()
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("cannot remove container %q: could not kill container: %w", d.Name, err)
		}
		if !ended(over, killGrace) {
			return fmt.Errorf("cannot remove container %q: could not kill container: it did not end within 10 seconds of SIGKILL", d.Name)
		}
	}
}

func stillRunning(d *definition, st state) error {
	what, try := "container is running: stop the container before removing or force remove", "kist stop "+d.Name+", or kist rm -f "+d.Name
	switch st.Phase {
	case paused:
		what, try = "container is paused and must be unpaused first", "kist unpause "+d.Name+", or kist rm -f "+d.Name
	case restarting:
		what = "container is restarting: stop the container before removing or force remove"
	}
	return &fault.Error{
		Code: "container-running", What: fmt.Sprintf("cannot remove container %q: %s", "/"+d.Name, what), Try: try, Class: errdefs.ErrConflict,
	}
}

// remove is Remove of a container that does not run, with the lock held.
func (e *Engine) remove(ctx context.Context, c *container, volumes bool) error {
	c.backoff.cancel()
	if _, st := c.look(); st.Phase == restarting {
		if err := e.abandon(c); err != nil {
			return err
		}
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	_, st := c.look()
	return e.dismantle(ctx, c, volumes, st.ExitCode)
}

// discard removes a container that was to be removed when it ends. The caller holds the lock.
func (e *Engine) discard(ctx context.Context, c *container, code int) error {
	return e.dismantle(ctx, c, true, code)
}

// dismantle takes the container out of the world: its row goes first, and what has no row any more is deleted behind the
// reply or, after a crash, by the next start of the daemon.
func (e *Engine) dismantle(ctx context.Context, c *container, volumes bool, code int) error {
	_, err := c.enter(removing, nil)
	if err != nil {
		return err
	}
	d, st := c.look()
	anonymous := d.anonymous()
	if volumes && len(anonymous) > 0 {
		if err := e.ledger.note(d, st); err != nil { // Volumes without a row would be nobody's.
			return err
		}
	}
	e.cfg.Volumes.Release(c.id)
	e.networks.Forget(c.id)
	if volumes {
		e.removeVolumes(ctx, anonymous)
	}
	if err := e.forget(d, code); err != nil {
		return err
	}
	e.departed.explain(c.id, st.End)
	e.emit(c, events.ActionDestroy, nil)
	e.index.remove(c, d.Name)
	c.finish(code)
	c.gone.fire(code)
	e.clearBehind(c, func(ctx context.Context) error {
		return errors.Join(
			e.tasks.Delete(ctx, c.id), e.unshare(d), e.cfg.Layers.Remove(ctx, c.id), e.removeImages(ctx, d), e.removeHome(c.id), e.dropSecrets(d))
	})
	return nil
}

// forget deletes the container's rows. Somebody may wait for the end of one that is removed at its exit.
func (e *Engine) forget(d *definition, code int) error {
	if !d.HostConfig.AutoRemove {
		return e.ledger.forget(d)
	}
	return e.ledger.depart(d, farewell{Code: code, At: time.Now().UTC()}, e.departed.add(d.ID, code))
}

// anonymous lists the volumes that were made for this container alone.
func (d *definition) anonymous() []string {
	var names []string
	for _, m := range d.Mounts {
		if m.Anonymous {
			names = append(names, m.Name)
		}
	}
	return names
}

// removeVolumes removes volumes that nobody else uses.
func (e *Engine) removeVolumes(ctx context.Context, names []string) {
	for _, name := range names {
		err := e.cfg.Volumes.Remove(ctx, name, false)
		if err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
			slog.Warn("remove volume", "name", name, "error", err)
		}
	}
}
