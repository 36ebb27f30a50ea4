package engine

import (
	"context"
	"fmt"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/access"
	"github.com/kistdev/kist/internal/fault"
)

// Kill sends a signal (default SIGKILL) to the container's first process. A signal that is meant to end it keeps restart
// policies from starting it again; SIGKILL is waited for.
func (e *Engine) Kill(ctx context.Context, name, text string) error {
	sig := syscall.SIGKILL
	if text != "" {
		var err error
		if sig, err = parseSignal(text); err != nil {
			return err
		}
	}
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	over, err := e.kill(ctx, c, sig)
	if err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", name, err)
	}
	if sig == syscall.SIGKILL && ended(over, killGrace) {
		return e.concluded(ctx, c)
	}
	return nil
}

func (e *Engine) kill(ctx context.Context, c *container, sig syscall.Signal) (*signal, error) {
	if err := c.op.acquire(ctx); err != nil {
		return nil, err
	}
	defer c.op.release()
	over, _ := c.signals()
	_, st := c.look()
	switch {
	case st.Phase == restarting && ending(c, sig):
		return over, e.abandon(c)
	case !st.Phase.alive():
		return nil, notRunning(c)
	}
	if ending(c, sig) {
		c.change(func(s *state) { s.Stopped = true })
	}
	c.intend(intent{reason: EndKilled, sig: sig, caller: access.Caller(ctx)})
	err := e.signal(ctx, c, sig)
	if errdefs.IsNotFound(err) {
		return over, notRunning(c)
	}
	return over, err
}

func notRunning(c *container) error {
	d, st := c.look()
	f := &fault.Error{
		Code: "container-not-running", What: fmt.Sprintf("container %s is not running", d.Name),
		Words: fmt.Sprintf("container %s is not running", c.id), Cause: "it was never started", Try: "kist start " + d.Name, Class: errdefs.ErrConflict,
	}
	if end := st.ended(); end != nil {
		f.Cause = end.Text
	}
	return f
}
