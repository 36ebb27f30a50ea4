package engine

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

// Docker's defaults, and how much of the past is kept.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
	healthLog            = 5
)

// restartUnhealthyLabel, set to "false", leaves an unhealthy container to itself.
const restartUnhealthyLabel = "dev.kist.restart-unhealthy"

// checked says that there is a health check to run.
func checked(h *docker.HealthConfig) bool {
	return h != nil && len(h.Test) > 0 && h.Test[0] != "NONE"
}

// probe is the health of one run of a container. Between two checks it is a timer, not a goroutine.
type probe struct {
	config docker.HealthConfig // with its defaults
	began  time.Time
	run    func(ctx context.Context) *docker.HealthcheckResult

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	ended  bool
	health docker.Health
}

func newProbe(h *docker.HealthConfig, status docker.HealthStatus, began time.Time) *probe {
	p := &probe{config: *h, began: began}
	setDefault(&p.config.Interval, defaultInterval)
	setDefault(&p.config.Timeout, defaultTimeout)
	setDefault(&p.config.StartInterval, defaultStartInterval)
	if p.config.Retries == 0 {
		p.config.Retries = defaultRetries
	}
	p.health.Status = status
	return p
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// pause is how long until the next check. A container that is starting is not left unchecked because its start period is
// shorter than the pauses in it.
func (p *probe) pause(now time.Time) time.Duration {
	if rest := p.config.StartPeriod - now.Sub(p.began); p.health.Status == docker.Starting && rest > 0 {
		return min(p.config.StartInterval, max(rest, p.config.Interval))
	}
	return p.config.Interval
}

// record adds a result and returns the status before and after. Failures while the container is starting do not count.
func (p *probe) record(r *docker.HealthcheckResult) (before, after docker.HealthStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.health
	before = h.Status
	h.Log = append(h.Log, r)
	if len(h.Log) > healthLog {
		h.Log = slices.Clone(h.Log[len(h.Log)-healthLog:])
	}
	switch {
	case r.ExitCode == 0:
		h.FailingStreak, h.Status = 0, docker.Healthy
	case h.Status == docker.Starting && r.Start.Sub(p.began) < p.config.StartPeriod:
	default:
		h.FailingStreak++
		if h.FailingStreak >= p.config.Retries {
			h.Status = docker.Unhealthy
		}
	}
	return before, h.Status
}

// health is what inspect shows; nil without a health check.
func (c *container) health() *docker.Health {
	c.mu.Lock()
	p, status := c.probe, c.st.Health
	c.mu.Unlock()
	if p == nil {
		if status == "" {
			return nil
		}
		return &docker.Health{Status: status, Log: []*docker.HealthcheckResult{}}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.health
	h.Log = slices.Clone(h.Log)
	if h.Log == nil {
		h.Log = []*docker.HealthcheckResult{}
	}
	return &h
}

// watch begins the health checks of a container that runs.
func (e *Engine) watch(c *container) {
	d, st := c.look()
	if !checked(d.Config.Healthcheck) {
		return
	}
	p := newProbe(d.Config.Healthcheck, st.Health, st.StartedAt)
	p.run = func(ctx context.Context) *docker.HealthcheckResult { return e.runCheck(ctx, c, p) }
	c.mu.Lock()
	c.probe = p
	c.mu.Unlock()
	e.schedule(c, p)
}

func (e *Engine) schedule(c *container, p *probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.timer = e.background.after(p.pause(time.Now()), func(ctx context.Context) { e.check(ctx, c, p) })
}

// unwatch ends the health checks of a run, and keeps the last results.
func (e *Engine) unwatch(c *container) {
	c.mu.Lock()
	p := c.probe
	c.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.health.Status = docker.Unhealthy
}

// check runs one health check, and acts on what it says.
func (e *Engine) check(ctx context.Context, c *container, p *probe) {
	defer e.schedule(c, p)
	if _, st := c.look(); st.Phase != running {
		return
	}
	result := p.run(ctx)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	late := p.ended
	p.mu.Unlock()
	if late {
		return
	}
	before, after := p.record(result)
	if before == after {
		return
	}
	if err := e.healthChanged(ctx, c, p, after); err != nil {
		slog.Warn("health of container", "id", c.id, "error", err)
	}
	if after == docker.Unhealthy {
		e.relieve(ctx, c)
	}
}

// healthChanged notes the status.
func (e *Engine) healthChanged(ctx context.Context, c *container, p *probe, to docker.HealthStatus) error {
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	defer c.op.release()
	p.mu.Lock()
	late := p.ended
	p.mu.Unlock()
	if late {
		return nil
	}
	d, _ := c.look()
	st := c.change(func(s *state) { s.Health = to })
	e.emit(c, events.Action(string(events.ActionHealthStatus)+": "+string(to)), nil)
	return e.ledger.note(d, st)
}

// relieve ends the run of an unhealthy container, if its restart policy starts it again.
func (e *Engine) relieve(ctx context.Context, c *container) {
	d, st := c.look()
	heed := e.restartUnhealthy
	if text, ok := d.Config.Labels[restartUnhealthyLabel]; ok {
		if v, err := strconv.ParseBool(text); err == nil {
			heed = v
		}
	}
	if !heed || !wantsRestart(d.HostConfig.RestartPolicy, st, st.ExitCode, true) {
		return
	}
	slog.Info("restart of container", "id", c.id, "name", d.Name, "why", "it is unhealthy")
	c.mu.Lock()
	c.unhealthy = true
	c.mu.Unlock()
	if err := e.stop(ctx, c, StopOptions{}, false); err != nil && ctx.Err() == nil {
		slog.Warn("restart of unhealthy container", "id", c.id, "error", err)
	}
}
