package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/access"
)

const (
	defaultGrace = 10 // seconds
	// killGrace is how long SIGKILL may take before it is an error: a process in the kernel's hands ends late.
	killGrace = 10 * time.Second
	// A process that has just begun may not have got to setting up its handlers: that long it is asked again.
	youth     = time.Second
	youthPoll = 20 * time.Millisecond
	youthWait = 200 * time.Millisecond
)

// StopOptions for Stop and Restart.
type StopOptions struct {
	Signal  string // empty: the container's own
	Timeout *int   // seconds; nil: the container's own; negative: no limit
}

// Stop asks the container's first process to end, and kills it after the grace time. One that cannot receive the signal
// is killed at once. A container that does not run is an errdefs.ErrNotModified.
func (e *Engine) Stop(ctx context.Context, name string, o StopOptions) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	err = e.stop(context.WithoutCancel(ctx), c, o, true)
	if err == nil {
		e.networks.Forget(c.id) // It is not expected back.
		e.emit(c, events.ActionStop, nil)
	}
	return err
}

// Restart is Stop, if it runs, and Start.
func (e *Engine) Restart(ctx context.Context, name string, o StopOptions) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if d, st := c.look(); d.HostConfig.AutoRemove && st.Phase.alive() {
		c.mu.Lock()
		c.keep = true
		c.mu.Unlock()
	}
	switch err := e.stop(ctx, c, o, true); {
	case err == nil:
		e.emit(c, events.ActionStop, nil)
	case !errdefs.IsNotModified(err):
		return fmt.Errorf("Cannot restart container %s: %w", name, err) //nolint:staticcheck // docker's words
	}
	if err := e.Start(ctx, c.id); err != nil && !errdefs.IsNotModified(err) {
		return fmt.Errorf("Cannot restart container %s: %w", name, err) //nolint:staticcheck // docker's words
	}
	e.emit(c, events.ActionRestart, nil)
	return nil
}

// stop ends the container's run. byHand says that restart policies leave it alone from now on.
func (e *Engine) stop(ctx context.Context, c *container, o StopOptions, byHand bool) error {
	over, sig, err := e.beginStop(ctx, c, o, byHand)
	if err != nil || over == nil {
		return err
	}
	d, _ := c.look()
	if ended(over, e.patience(ctx, c, over, sig, grace(o, d))) {
		return e.concluded(ctx, c)
	}
	c.mu.Lock()
	c.intent.forced = true
	c.mu.Unlock()
	return e.forceStop(ctx, c, over)
}

// grace is how long a stop waits for the end; negative: for ever.
func grace(o StopOptions, d *definition) time.Duration {
	seconds := defaultGrace
	switch {
	case o.Timeout != nil:
		seconds = *o.Timeout
	case d.Config.StopTimeout != nil:
		seconds = *d.Config.StopTimeout
	}
	return time.Duration(seconds) * time.Second
}

// beginStop sends the signal. It returns no signal to wait for when there is nothing to wait for.
func (e *Engine) beginStop(ctx context.Context, c *container, o StopOptions, byHand bool) (*signal, syscall.Signal, error) {
	if err := c.op.acquire(ctx); err != nil {
		return nil, 0, err
	}
	defer c.op.release()
	d, st := c.look()
	switch {
	case st.Phase == restarting:
		return nil, 0, e.abandon(c)
	case !st.Phase.alive():
		return nil, 0, fmt.Errorf("container %s is already stopped: %w", c.id, errdefs.ErrNotModified)
	}
	sig, err := stopSignal(o.Signal, d.Config.StopSignal)
	if err != nil {
		return nil, 0, err
	}
	if byHand {
		c.change(func(s *state) { s.Stopped = true })
		c.intend(intent{reason: EndStopped, sig: sig, grace: grace(o, d), caller: access.Caller(ctx)})
	} else {
		c.intend(intent{reason: EndUnhealthy, sig: sig, health: c.lastCheck()})
	}
	over, _ := c.signals()
	err = e.signal(ctx, c, sig)
	if errdefs.IsNotFound(err) { // It ended just now.
		err = nil
	}
	return over, sig, err
}

func stopSignal(asked, own string) (syscall.Signal, error) {
	switch {
	case asked != "":
		return parseSignal(asked)
	case own != "":
		return parseSignal(own)
	}
	return syscall.SIGTERM, nil
}

// patience is how long to wait for the process to end: the grace time, or nothing for a process that cannot get the
// signal. Negative means for ever.
func (e *Engine) patience(ctx context.Context, c *container, over *signal, sig syscall.Signal, limit time.Duration) time.Duration {
	_, st := c.look()
	if !st.Phase.alive() || !deaf(st.PID, sig) {
		return limit
	}
	for waited := time.Duration(0); waited < youthWait && time.Since(st.StartedAt) < youth; waited += youthPoll {
		if ended(over, youthPoll) {
			return limit
		}
		if !deaf(st.PID, sig) { // The first one was lost on it.
			_ = e.tasks.Kill(ctx, c.id, "", sig) // If it has ended meanwhile, that is what was asked for.
			return limit
		}
	}
	why := fmt.Sprintf("killed at once: its process 1 has no handler for %s, so the kernel drops it", signalName(sig))
	slog.Info("stop of container", "id", c.id, "why", why)
	c.mu.Lock()
	c.intent.deaf = why
	c.mu.Unlock()
	return 0
}

// ended waits at most d, for ever if it is negative, and says whether the run is over.
func ended(over *signal, d time.Duration) bool {
	select {
	case <-over.done:
		return true
	default:
	}
	if d < 0 {
		<-over.done
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-over.done:
		return true
	case <-t.C:
		return false
	}
}

// forceStop kills the run and waits for its end.
func (e *Engine) forceStop(ctx context.Context, c *container, over *signal) error {
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	_, st := c.look()
	var err error
	if st.Phase.alive() {
		err = e.signal(ctx, c, syscall.SIGKILL)
	}
	c.op.release()
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if !ended(over, killGrace) {
		return errors.New("container did not end within 10 seconds of SIGKILL; its processes are held by the kernel")
	}
	return e.concluded(ctx, c)
}

// concluded waits until the end of the run is on disk.
func (e *Engine) concluded(ctx context.Context, c *container) error {
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	c.op.release()
	return nil
}

// signal sends a signal to the first process, and says so. A paused container is let go on, for it could not act on it.
// The caller holds the lock.
func (e *Engine) signal(ctx context.Context, c *container, sig syscall.Signal) error {
	if err := e.tasks.Kill(ctx, c.id, "", sig); err != nil {
		return err
	}
	attributes := map[string]string{"signal": strconv.Itoa(int(sig))}
	c.mu.Lock()
	if sig == syscall.SIGKILL && c.intent.deaf != "" {
		attributes["reason"] = c.intent.deaf
	}
	c.mu.Unlock()
	e.emit(c, events.ActionKill, attributes)
	if _, st := c.look(); st.Phase == paused && ending(c, sig) {
		return e.thaw(ctx, c)
	}
	return nil
}

// ending says that the signal is meant to end the container.
func ending(c *container, sig syscall.Signal) bool {
	d, _ := c.look()
	own, err := stopSignal("", d.Config.StopSignal)
	return sig == syscall.SIGKILL || sig == syscall.SIGTERM || err == nil && sig == own
}
