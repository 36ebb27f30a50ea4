package engine

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/event"
)

func TestProbe(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := newProbe(&docker.HealthConfig{Test: []string{"CMD", "x"}, StartPeriod: 10 * time.Second}, docker.Starting, began)
	step := func(at time.Duration, code int) docker.HealthStatus {
		_, after := p.record(&docker.HealthcheckResult{Start: began.Add(at), ExitCode: code})
		return after
	}
	for i, tt := range []struct {
		at     time.Duration
		code   int
		want   docker.HealthStatus
		streak int
		pause  time.Duration
	}{
		{1 * time.Second, 1, docker.Starting, 0, 5 * time.Second}, // in the start period failures do not count
		{9 * time.Second, 1, docker.Starting, 0, 5 * time.Second},
		{11 * time.Second, 1, docker.Starting, 1, 30 * time.Second},
		{12 * time.Second, 1, docker.Starting, 2, 30 * time.Second},
		{13 * time.Second, 0, docker.Healthy, 0, 30 * time.Second},
		{14 * time.Second, 1, docker.Healthy, 1, 30 * time.Second},
		{15 * time.Second, -1, docker.Healthy, 2, 30 * time.Second},
		{16 * time.Second, 1, docker.Unhealthy, 3, 30 * time.Second},
		{17 * time.Second, 0, docker.Healthy, 0, 30 * time.Second},
	} {
		if got := step(tt.at, tt.code); got != tt.want || p.health.FailingStreak != tt.streak {
			t.Errorf("step %d: %s, streak %d", i, got, p.health.FailingStreak)
		}
		if got := p.pause(began.Add(tt.at)); got != tt.pause {
			t.Errorf("step %d: pause %v", i, got)
		}
	}
	short := newProbe(&docker.HealthConfig{Interval: time.Second, StartPeriod: 2 * time.Second}, docker.Starting, began)
	for at, want := range map[time.Duration]time.Duration{0: 2 * time.Second, 1500 * time.Millisecond: time.Second, 3 * time.Second: time.Second} {
		if got := short.pause(began.Add(at)); got != want {
			t.Errorf("a start period of 2s: after %v a pause of %v, want %v", at, got, want)
		}
	}
	if len(p.health.Log) != healthLog {
		t.Errorf("%d results are kept", len(p.health.Log))
	}
}

// The schedule of the checks, the events and the rows, in no time.
func TestHealthSchedule(t *testing.T) {
	rows, err := openLedger(t.TempDir(), filepath.Join(t.TempDir(), "run"), "boot")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.close()
	synctest.Test(t, func(t *testing.T) {
		e := &Engine{cfg: Config{Events: new(event.Bus)}, index: newIndex(), ledger: rows, execs: newExecs(), background: newBackground()}
		check := &docker.HealthConfig{Test: []string{"CMD", "x"}, Interval: time.Minute, Retries: 2, StartPeriod: 30 * time.Second, StartInterval: 10 * time.Second}
		c := newContainer(&definition{
			ID: "c", Name: "c", Config: &docker.Config{Healthcheck: check}, HostConfig: &docker.HostConfig{AutoRemove: true},
		}, state{Phase: running, StartedAt: time.Now(), Health: docker.Starting})
		began := time.Now()
		codes := []int{1, 1, 0, 1, 1, 0}
		var at []time.Duration
		p := newProbe(check, docker.Starting, began)
		p.run = func(context.Context) *docker.HealthcheckResult {
			at = append(at, time.Since(began))
			code := codes[0]
			codes = codes[1:]
			return &docker.HealthcheckResult{Start: time.Now(), ExitCode: code}
		}
		c.probe = p
		e.schedule(c, p)
		time.Sleep(30*time.Second + 3*time.Minute + time.Second)
		synctest.Wait()
		e.unwatch(c)
		time.Sleep(time.Hour)
		e.background.close()
		want := []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 90 * time.Second, 150 * time.Second, 210 * time.Second}
		if d := cmp.Diff(want, at); d != "" {
			t.Error(d)
		}
		past, _ := e.cfg.Events.Subscribe(t.Context(), time.Unix(1, 0))
		var seen []events.Action
		for _, m := range past {
			seen = append(seen, m.Action)
		}
		if !slices.Equal(seen, []events.Action{"health_status: healthy", "health_status: unhealthy", "health_status: healthy"}) {
			t.Errorf("events %v", seen)
		}
		if st := c.change(func(*state) {}); st.Health != docker.Healthy || c.health().Status != docker.Unhealthy {
			t.Errorf("status %s, and %s after the end", st.Health, c.health().Status)
		}
	})
}

// A pending restart that is cancelled does not come.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackground()
		ran := 0
		b.after(time.Minute, func(context.Context) { ran++ })
		b.after(time.Minute, func(context.Context) { ran += 10 }).Stop()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		b.after(time.Minute, func(context.Context) { ran += 100 })
		b.run(func(ctx context.Context) { <-ctx.Done() })
		b.close()
		time.Sleep(2 * time.Minute)
		if ran != 1 || b.run(func(context.Context) {}) {
			t.Errorf("ran %d, or a goroutine was started after the end", ran)
		}
	})
}
