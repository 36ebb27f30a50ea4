package keeper

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
)

// exec runs a further process in a container. It replies unless it fails.
func (s *session) exec(ctx context.Context, m *task.Message) error {
	var r task.ExecMessage
	if err := m.Decode(&r); err != nil {
		return err
	}
	if !validName(r.ExecID) || r.Process == nil {
		return fmt.Errorf("exec %q: id or process: %w", r.ExecID, errdefs.ErrInvalidArgument)
	}
	c := s.k.container(r.ID)
	if c == nil || c.process() == nil {
		return notFound(r.ID, "")
	}
	first := c.process()
	if first.ended() != nil {
		return fmt.Errorf("exec in container %s: it is not running: %w", short(r.ID), errdefs.ErrFailedPrecondition)
	}
	if c.find(r.ExecID) != nil {
		return fmt.Errorf("exec %s exists: %w", r.ExecID, errdefs.ErrAlreadyExists)
	}
	created, err := s.k.created(r.ID)
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", short(r.ID), err)
	}
	target := runtime.ExecTarget{PIDFD: first.pidfd, PID: first.pid, Spec: created.Spec, Unconfined: r.Privileged}
	p, err := s.k.spawn(c, r.ExecID, r.Process, r.Stdin, func(io runtime.Stdio) (*runtime.Process, error) {
		return s.k.rt.Exec(ctx, target, r.Process, io)
	})
	if err != nil {
		// Attachments that wait for it stay: the client tells the failure on them before its DeleteExec ends them.
		return fmt.Errorf("exec in container %s: %w", short(r.ID), execError(err))
	}
	p.closesInput = true
	p.starting.Lock()
	c.addProcess(p)
	if err := p.listen(); err != nil {
		p.starting.Unlock()
		return fmt.Errorf("exec in container %s: %w", short(r.ID), err)
	}
	held, fds := p.held()
	s.reply(m.Number, task.Reply{Held: &held}, fds...)
	p.starting.Unlock()
	p.mustAwait()
	return nil
}

// endWaiting ends the attachments to an exec that failed.
func (c *container) endWaiting(execID string) {
	c.mu.Lock()
	waiting := c.waiting[execID]
	delete(c.waiting, execID)
	c.mu.Unlock()
	for _, a := range waiting {
		a.finish()
	}
}

// removeExec forgets an exec that has ended. One that is not known is no error.
func (k *keeper) removeExec(t task.Target) error {
	if !validName(t.ID) || !validName(t.ExecID) {
		return fmt.Errorf("delete exec %q: %w", t.ExecID, errdefs.ErrInvalidArgument)
	}
	c := k.container(t.ID)
	if c == nil {
		return nil
	}
	p := c.find(t.ExecID)
	if p == nil {
		c.endWaiting(t.ExecID)
		return nil
	}
	if p.ended() == nil {
		return fmt.Errorf("delete exec %s: it is running: %w", t.ExecID, errdefs.ErrFailedPrecondition)
	}
	<-p.exited
	c.forget(t.ExecID)
	p.releaseQuietly()
	return k.records.remove(exitName(t.ID, t.ExecID), exitSuffix)
}
