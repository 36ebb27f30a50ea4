package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
)

// start lets a created process go. It replies unless it fails.
func (s *session) start(ctx context.Context, m *task.Message) error {
	m.CloseFDs()
	var t task.Target
	if err := m.Decode(&t); err != nil {
		return err
	}
	c := s.k.container(t.ID)
	if c == nil || c.process() == nil {
		return notFound(t.ID, "")
	}
	p := c.process()
	p.starting.Lock()
	c.mu.Lock()
	started := c.started
	c.mu.Unlock()
	if started || p.ended() != nil || !p.child {
		p.starting.Unlock()
		return fmt.Errorf("start container %s: it is not waiting for its start: %w", short(t.ID), errdefs.ErrFailedPrecondition)
	}
	if err := s.k.letGo(ctx, p); err != nil {
		c.files.Lock()
		s.k.abandon(ctx, c, p)
		c.files.Unlock()
		return err
	}
	s.reply(m.Number, task.Reply{})
	p.starting.Unlock()
	c.files.Lock()
	defer c.files.Unlock()
	s.k.recordPID(p, true)
	return nil
}

// letGo lets a process become its program. The caller holds p.starting.
func (k *keeper) letGo(ctx context.Context, p *process) error {
	k.making.RLock()
	err := k.rt.Start(ctx, p.rt)
	k.making.RUnlock()
	k.sweepIfWanted()
	if err != nil {
		return fmt.Errorf("start container %s: %w", short(p.c.id), execError(err))
	}
	p.c.mu.Lock()
	p.c.started = true
	p.c.mu.Unlock()
	return nil
}

// execError turns what runtime says of a failed execve into what the contract says.
func execError(err error) error {
	var e *runtime.StartError
	if !errors.As(err, &e) {
		return err
	}
	var errno unix.Errno
	if !errors.As(e.Err, &errno) {
		return err
	}
	return &task.ExecError{Path: e.Path, Step: e.Step, Errno: errno}
}

// abandon takes down what a failed create or start has put up. The caller holds p.starting, if there is a p, and files.
// Attachments end: their process will never be.
func (k *keeper) abandon(ctx context.Context, c *container, p *process) {
	if p != nil {
		p.failed = true
		p.starting.Unlock()
		_ = p.signal(unix.SIGKILL) // it may be gone already
		p.mu.Lock()
		watched := p.watch != nil
		p.mu.Unlock()
		if watched {
			<-p.exited
		} else {
			waitPIDFD(p.pidfdNumber)
			p.onExit()
		}
		if err := k.rt.Delete(ctx, p.rt); err != nil {
			slog.Warn("keeper: remove after failed start", "container", c.id, "error", err)
		}
	}
	c.closeLog()
	if err := errors.Join(k.records.remove(c.id, taskSuffix), k.records.remove(c.id, pidSuffix)); err != nil {
		slog.Warn("keeper: remove after failed start", "container", c.id, "error", err)
	}
	k.drop(c, p, false)
	if p != nil {
		p.release()
	}
}

// waitPIDFD waits until the process has ended.
func waitPIDFD(pidfd int) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 10_000)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// drop forgets a container. Attachments that outlive a run wait for the next one if keep says so, all others end.
func (k *keeper) drop(c *container, p *process, keep bool) {
	if p != nil {
		p.endAttachments()
	}
	k.mu.Lock()
	delete(k.containers, c.id)
	var kept *container
	for _, a := range c.takeWaiting() {
		if !keep || !a.req.AcrossRestarts || a.req.ExecID != "" {
			a.finish()
			continue
		}
		if kept == nil {
			kept = &container{k: k, id: c.id}
			k.containers[c.id] = kept
		}
		kept.attach(a)
	}
	k.mu.Unlock()
	k.armIdle()
}
