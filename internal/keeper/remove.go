package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/runtime"
)

// remove forgets a task, killing it if it must. Its cgroup is removed behind the caller's back: the record says so until
// that is done, and a new task of the same id waits for it.
func (k *keeper) remove(ctx context.Context, id string) error {
	if !validName(id) {
		return fmt.Errorf("delete task %q: %w", id, errdefs.ErrInvalidArgument)
	}
	if err := k.lockUnlessRemoving(ctx, id); err != nil {
		return err
	}
	c := k.containers[id]
	if c == nil {
		k.mu.Unlock()
		return nil
	}
	if c.busy {
		k.mu.Unlock()
		return fmt.Errorf("delete task of container %s: it is being created or deleted: %w", short(id), errdefs.ErrConflict)
	}
	p := c.process()
	if p == nil { // only attachments
		k.mu.Unlock()
		k.drop(c, nil, false)
		return nil
	}
	c.busy = true
	k.mu.Unlock()
	if err := p.kill(ctx); err != nil {
		k.unreserve(c)
		return err
	}
	c.files.Lock()
	execs := c.processes()
	var names []string
	for _, e := range execs {
		if e != p {
			names = append(names, e.execID)
		}
	}
	if err := k.records.bury(id, names); err != nil {
		c.files.Unlock()
		k.unreserve(c)
		return err
	}
	k.recent.forget(id)
	done := make(chan struct{})
	k.mu.Lock()
	k.removing[id] = done
	k.mu.Unlock()
	k.drop(c, p, true)
	p.rt.Unmount() // When the reply comes, nothing is mounted any more on the writable layer.
	k.wg.Add(1)
	go func() {
		defer k.wg.Done()
		defer c.files.Unlock()
		k.finishRemoval(ctx, id, p.rt)
		for _, e := range execs {
			if err := e.waitExited(ctx); err != nil {
				slog.Warn("keeper: release process", "container", id, "error", err)
				continue
			}
			if e != p { // It may have been killed only just now, and its end put on record after the records were buried.
				if err := k.records.remove(exitName(id, e.execID), exitSuffix); err != nil {
					slog.Warn("keeper: remove records", "container", id, "error", err)
				}
			}
			e.release()
		}
		k.removed(id, done)
	}()
	return nil
}

func (k *keeper) removed(id string, done chan struct{}) {
	k.mu.Lock()
	delete(k.removing, id)
	k.mu.Unlock()
	close(done)
	k.armIdle()
}

// kill ends the process and waits until its end has been dealt with.
func (p *process) kill(ctx context.Context) error {
	if p.ended() == nil {
		if err := p.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill container %s: %w", short(p.c.id), err)
		}
	}
	return p.waitExited(ctx)
}

// signal sends a signal, unless the descriptor is closed already and its number may be another's.
func (p *process) signal(s unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(p.pidfdNumber, s, nil, 0)
}

// waitExited waits, within reason, until the process's end has been dealt with.
func (p *process) waitExited(ctx context.Context) error {
	t := time.NewTimer(removalPatience)
	defer t.Stop()
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fmt.Errorf("kill container %s: pid %d does not end: %w", short(p.c.id), p.pid, errdefs.ErrUnavailable)
	}
}

// finishRemoval removes the cgroup, and what is in it, and then the record that asks for it.
func (k *keeper) finishRemoval(ctx context.Context, id string, rt *runtime.Process) {
	var err error
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 4 {
		k.making.RLock()
		err = k.rt.Delete(ctx, rt)
		k.making.RUnlock()
		k.sweepIfWanted()
		if err == nil {
			break
		}
		time.Sleep(wait)
	}
	if err != nil { // the record stays: the next keeper tries again
		slog.Warn("keeper: remove cgroup", "container", id, "error", err)
		return
	}
	if err := errors.Join(k.records.remove(id, pidSuffix), k.records.remove(id, goneSuffix)); err != nil {
		slog.Warn("keeper: remove records", "container", id, "error", err)
	}
}
