package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/undo"
)

// Start starts a container. One that runs already is an errdefs.ErrNotModified.
func (e *Engine) Start(ctx context.Context, name string) error {
	c, release, err := e.hold(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	if err := startable(c); err != nil {
		return err
	}
	c.backoff.reset()
	// A start that has begun is finished, even when whoever asked for it goes away.
	return e.start(context.WithoutCancel(ctx), c, 0, nil)
}

// StartAttached is Attach, without the log, and then Start: the stream is on its way to the keeper while the start is prepared.
func (e *Engine) StartAttached(ctx context.Context, name string, o AttachOptions) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	keys, err := detachKeys(o.DetachKeys)
	if err != nil {
		return err
	}
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	defer c.op.release()
	if err := startable(c); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := c.settle(ctx); err != nil {
		return err
	}
	d, _ := c.look()
	s, err := e.hijack(c, d, o)
	if err != nil {
		return err
	}
	joined := make(chan error, 1)
	go func() {
		joined <- e.join(ctx, d, o, keys, s)
		_ = s.File.Close() // The keeper has its own descriptor of it.
	}()
	c.backoff.reset()
	return e.start(ctx, c, 0, joined)
}

// startable refuses a container in a phase that no start leads from.
func startable(c *container) error {
	switch _, st := c.look(); st.Phase {
	case running:
		return fmt.Errorf("container %s is already started: %w", c.id, errdefs.ErrNotModified)
	case paused:
		return fmt.Errorf("cannot start a paused container, try unpause instead: %w", errdefs.ErrConflict)
	case removing:
		return fmt.Errorf("container is marked for removal and cannot be started: %w", errdefs.ErrConflict)
	}
	return nil
}

// start is Start with the lock held. restarts is the new count of restarts; joined, if any, tells that the keeper has what is to
// be attached before the process runs.
func (e *Engine) start(ctx context.Context, c *container, restarts int, joined <-chan error) error {
	err := e.launch(ctx, c, restarts, joined)
	if err == nil {
		d, st := c.look()
		e.emitMounts(d)
		e.emitNetworks(c.id, events.ActionConnect, st.Networks)
		e.emit(c, events.ActionStart, nil)
		e.relink(d)
		return nil
	}
	if failed := e.startFailed(ctx, c, err); failed != nil {
		err = errors.Join(err, failed)
	}
	return err
}

// launch puts up all that a run needs, and lets the process go. When a step fails, everything is taken down again.
func (e *Engine) launch(ctx context.Context, c *container, restarts int, joined <-chan error) (err error) {
	if err := c.settle(ctx); err != nil {
		return err
	}
	var u undo.Stack
	defer func() {
		if failed := u.Unwind(ctx); failed != nil {
			err = errors.Join(err, failed)
		}
	}()
	d, st := c.look()
	p, err := e.plan(ctx, d, &u)
	if joined != nil {
		err = errors.Join(err, <-joined)
	}
	if err != nil {
		if p != nil {
			p.close()
		}
		return err
	}
	u.Push("delete task", func(ctx context.Context) error { return e.tasks.Delete(ctx, c.id) })
	pid, warnings, err := e.tasks.Run(ctx, p.task)
	p.close()
	if err != nil {
		return e.explain(d, createFailed, err)
	}
	for _, w := range append(p.warnings, warnings...) {
		slog.Warn("start of container", "id", c.id, "warning", w)
	}
	st.Phase, st.PID, st.ExitCode, st.Error, st.OOMKilled = running, pid, 0, "", false
	if restarts == 0 { // A restart has a reason, and that is it.
		st.End = nil
	}
	st.StartedAt, st.Restarts, st.Stopped = time.Now().UTC(), restarts, false
	st.Cgroup, st.Networks, st.Ports, st.Health = p.task.Spec.Linux.CgroupsPath, p.networks, p.ports, ""
	if checked(d.Config.Healthcheck) {
		st.Health = docker.Starting
	}
	if err := e.ledger.note(d, st); err != nil {
		return err
	}
	c.mu.Lock()
	c.st, c.intent = st, intent{}
	c.mu.Unlock()
	u.Release()
	e.watch(c)
	return nil
}

// startFailed notes why a container did not start. One that is removed when it exits is removed now.
func (e *Engine) startFailed(ctx context.Context, c *container, cause error) error {
	code, text := exitCodeOf(cause), cause.Error()
	c.mu.Lock()
	c.st.ExitCode, c.st.Error, c.st.End = code, text, notStarted(cause)
	if c.st.Phase == restarting {
		c.st.Phase = exited
	}
	d, st := c.def, c.st
	c.mu.Unlock()
	if d.HostConfig.AutoRemove {
		return e.discard(ctx, c, code)
	}
	c.finish(code) // The text is the answer to the start: who waits would tell it twice.
	e.letGo(c)
	return e.ledger.note(d, st)
}

// exitCodeOf is docker's: 127 for a program that is not there, 126 for one that cannot be executed, 128 for the rest.
func exitCodeOf(err error) int {
	var x *task.ExecError
	switch {
	case !errors.As(err, &x):
		return 128
	case errors.Is(x.Errno, os.ErrNotExist):
		return 127
	}
	return 126
}
