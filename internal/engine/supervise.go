package engine

import (
	"context"
	"log/slog"
	"time"

	docker "github.com/moby/moby/api/types/container"
)

// Waiting before a restart, as docker does it: from 100 ms doubling to a minute, and from the start again after a run of
// ten seconds.
const (
	firstDelay  = 100 * time.Millisecond
	longestWait = time.Minute
	goodRun     = 10 * time.Second
)

// backoff is one container's waiting. It belongs to whoever holds the container's op lock.
type backoff struct {
	delay time.Duration
	timer *time.Timer // nil: no restart is pending
}

// next returns how long to wait after a run of that length.
func (b *backoff) next(ran time.Duration) time.Duration {
	switch {
	case b.delay == 0 || ran >= goodRun:
		b.delay = firstDelay
	default:
		b.delay = min(2*b.delay, longestWait)
	}
	return b.delay
}

// cancel forgets a pending restart.
func (b *backoff) cancel() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
}

// reset is cancel, and begins with the shortest delay again.
func (b *backoff) reset() {
	b.cancel()
	b.delay = 0
}

// wantsRestart applies the restart policy. unhealthy says that the engine itself ended the run: that is a failure
// whatever the exit code.
func wantsRestart(p docker.RestartPolicy, st state, code int, unhealthy bool) bool {
	if st.Stopped {
		return false
	}
	switch p.Name {
	case docker.RestartPolicyAlways, docker.RestartPolicyUnlessStopped:
		return true
	case docker.RestartPolicyOnFailure:
		return (code != 0 || unhealthy) && (p.MaximumRetryCount == 0 || st.Restarts < p.MaximumRetryCount)
	}
	return false
}

// wantsRevival applies the restart policy when the daemon starts: as docker documents it, "always" also brings back a
// container that a person had stopped.
func wantsRevival(p docker.RestartPolicy, st state) bool {
	if st.StartedAt.IsZero() {
		return false
	}
	if p.Name == docker.RestartPolicyAlways {
		return true
	}
	return wantsRestart(p, st, st.ExitCode, false)
}

// restartLater starts the container again after its delay. The caller holds the lock.
func (e *Engine) restartLater(c *container, ran time.Duration, restarts int) {
	c.backoff.timer = e.background.after(c.backoff.next(ran), func(ctx context.Context) {
		if c.op.acquire(ctx) != nil {
			return
		}
		defer c.op.release()
		if _, st := c.look(); st.Phase != restarting {
			return
		}
		c.backoff.timer = nil
		// Begun is finished, even when the engine is closing.
		if err := e.start(context.WithoutCancel(ctx), c, restarts, nil); err != nil {
			slog.Warn("restart of container", "id", c.id, "error", err)
		}
	})
}

// abandon ends the wait for a restart: the container is exited. The caller holds the lock.
func (e *Engine) abandon(c *container) error {
	c.backoff.reset()
	st, err := c.enter(exited, func(s *state) { s.Stopped = true })
	if err != nil {
		return err
	}
	c.finish(st.ExitCode)
	e.letGo(c)
	return e.ledger.note(c.def, st)
}

// letGo ends the attachments that were made across restarts, when none follows: a Delete that finds no process does.
func (e *Engine) letGo(c *container) {
	if d, _ := c.look(); !d.HostConfig.RestartPolicy.IsNone() {
		e.clearBehind(c, func(ctx context.Context) error { return e.tasks.Delete(ctx, c.id) })
	}
}
