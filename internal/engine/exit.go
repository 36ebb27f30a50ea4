package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/task"
)

// follow takes what the keeper tells, until the engine closes. Each exit is handled beside the others.
func (e *Engine) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-e.tasks.Events():
			if !ok {
				return
			}
			e.noticed(ev)
		}
	}
}

func (e *Engine) noticed(ev task.Event) {
	c := e.index.get(ev.ID)
	switch ev.Kind {
	case task.EventExit:
		if ev.Exit == nil {
			return
		}
		x := *ev.Exit
		e.background.run(func(ctx context.Context) {
			if err := e.ended(ctx, x); err != nil && !errors.Is(err, context.Canceled) {
				slog.Warn("end of container", "id", x.ID, "exec", x.ExecID, "error", err)
			}
		})
	case task.EventOOM:
		if c != nil {
			e.emit(c, events.ActionOOM, nil)
		}
	case task.EventDetach:
		if c == nil {
			return
		}
		if ev.ExecID == "" {
			e.emit(c, events.ActionDetach, nil)
			return
		}
		e.emit(c, events.ActionExecDetach, map[string]string{"execID": ev.ExecID})
	}
}

// ended handles the end of a process. When it cannot be finished now, the record of the exit stays, and the next start of
// the daemon finishes it.
func (e *Engine) ended(ctx context.Context, x task.Exit) error {
	if x.ExecID != "" {
		return e.execEnded(ctx, x)
	}
	c := e.index.get(x.ID)
	if c == nil { // A daemon died while it removed it.
		e.departed.add(x.ID, x.Code)
		return e.tasks.Delete(ctx, x.ID)
	}
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	defer c.op.release()
	ctx = context.WithoutCancel(ctx) // Begun is finished, even when the engine is closing.
	d, st := c.look()
	if !st.Phase.alive() {
		return e.tasks.Delete(ctx, x.ID)
	}
	if x.PID != 0 && x.PID != st.PID { // A late word about an earlier run.
		return nil
	}
	e.unwatch(c)
	// Before anybody is told, so that whoever waits for the end can have the ports.
	left := e.networks.Leave(ctx, c.id)
	in := c.wanted()
	in.unseen = x.At.Before(e.began)
	end := explainEnd(d, x, in)
	e.emit(c, events.ActionDie, map[string]string{
		"exitCode":     strconv.Itoa(x.Code),
		"execDuration": strconv.Itoa(int(x.At.Sub(st.StartedAt).Seconds())),
	})
	e.emitNetworks(c.id, events.ActionDisconnect, st.Networks)
	e.emitUnmounts(d)
	stop := func(s *state) {
		s.PID, s.ExitCode, s.OOMKilled, s.Error = 0, x.Code, x.OOMKilled, ""
		s.End = end
		if x.Unknown { // No ordinary exit: Docker's clients shall see it, too.
			s.Error = lostText
		}
		s.FinishedAt, s.Networks, s.Ports, s.Cgroup = x.At.UTC(), nil, nil, ""
		if s.Health != "" {
			s.Health = "unhealthy"
		}
	}
	if d.HostConfig.CgroupParent != "" {
		defer e.clearBehind(c, func(ctx context.Context) error { return cgroup.PruneParents(ctx, st.Cgroup) })
	}
	if d.HostConfig.AutoRemove && !c.takeKeep() {
		if _, err := c.enter(exited, stop); err != nil {
			return err
		}
		return errors.Join(left, e.discard(ctx, c, x.Code))
	}
	return errors.Join(left, e.conclude(c, x, stop))
}

// conclude leaves the container exited, or waiting for its next start.
func (e *Engine) conclude(c *container, x task.Exit, stop func(*state)) error {
	d, st := c.look()
	again := wantsRestart(d.HostConfig.RestartPolicy, st, x.Code, c.takeUnhealthy())
	next := exited
	if again {
		next = restarting
	}
	st, err := c.enter(next, stop)
	if err != nil {
		return err
	}
	if again {
		e.restartLater(c, x.At.Sub(st.StartedAt), st.Restarts+1)
	} else {
		c.finish(x.Code)
	}
	// The keeper's record of the exit is there until the row is.
	if err := e.ledger.note(d, st); err != nil {
		return err
	}
	e.clearBehind(c, func(ctx context.Context) error {
		err := errors.Join(e.tasks.Delete(ctx, c.id), e.unshare(d))
		if !again && !d.HostConfig.RestartPolicy.IsNone() {
			// A Delete that finds no process lets the attachments go that were made across restarts.
			err = errors.Join(err, e.tasks.Delete(ctx, c.id))
		}
		return err
	})
	return nil
}

// unshare takes down what the engine mounted on the host for the container: shared memory, volumes, images.
func (e *Engine) unshare(d *definition) error {
	err := e.unmountAll(d)
	if d.HostConfig.IpcMode.IsShareable() {
		err = errors.Join(err, unmountShm(e.shmDir(d.ID)))
	}
	return err
}

// clearBehind runs fn after the reply, when nobody waits for it; a next start does.
func (e *Engine) clearBehind(c *container, fn func(ctx context.Context) error) {
	done := make(chan struct{})
	c.mu.Lock()
	before := c.behind
	c.behind = done
	c.mu.Unlock()
	e.execs.drop(c.id)
	started := e.background.run(func(ctx context.Context) {
		defer close(done)
		if before != nil {
			<-before
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
		defer cancel()
		if err := fn(ctx); err != nil {
			slog.Warn("clear up behind container", "id", c.id, "error", err)
		}
		c.mu.Lock()
		if c.behind == done {
			c.behind = nil
		}
		c.mu.Unlock()
	})
	if !started { // The engine is closing: the next one finds it.
		close(done)
	}
}

// clearTimeout bounds what is done behind a reply, so that Close ends.
const clearTimeout = 30 * time.Second

// removeHome deletes the container's directory with its log.
func (e *Engine) removeHome(id string) error { return os.RemoveAll(e.home(id)) }
