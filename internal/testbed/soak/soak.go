// Package soak asks a daemon for what a busy machine of a team's continuous integration asks it for in a day, in minutes, and
// says what the daemon and its keeper hold before and after.
package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kistdev/kist/internal/testbed"
)

// Box is the image that everything runs.
const Box = "kist.test/busybox"

// residents are containers that run all the time, with health checks, as services of the machine's own do.
const residents = 10

// Soak is a daemon under a day's calls.
type Soak struct {
	host     *testbed.Host
	docker   *client.Client
	registry string
	parallel int
	serial   atomic.Int64 // for names
	mu       sync.Mutex
	tally    map[string]*figures // guarded by mu
}

// figures are how often a chore was done, and how long that took in all.
type figures struct {
	times int
	took  time.Duration
}

// New prepares a daemon that runs on a host: the image, the containers that stay. Registry is where images may be pushed to
// and pulled from; empty leaves that out.
func New(t testing.TB, h *testbed.Host, registry string, parallel int) *Soak {
	t.Helper()
	h.Run("kist", "load", "-q", "-i", testbed.Recipes()["busybox"].MustArchive(t))
	docker, err := client.New(client.WithHost("unix://"+h.Socket()), client.WithDialContext(func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", h.Socket())
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	s := &Soak{host: h, docker: docker, registry: registry, parallel: parallel, tally: map[string]*figures{}}
	for i := range residents {
		if err := s.settle(t.Context(), fmt.Sprintf("resident-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if registry != "" {
		h.Run("kist", "tag", Box, registry+"/box:1")
		h.Run("kist", "push", "-q", registry+"/box:1")
	}
	return s
}

// settle makes a container that stays.
func (s *Soak) settle(ctx context.Context, name string) error {
	_, err := s.docker.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name, Config: &container.Config{
		Image: Box, Labels: map[string]string{"resident": ""}, Cmd: []string{"sh", "-c", "trap exit TERM; while :; do date; sleep 1 & wait; done"},
		Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: 250 * time.Millisecond, Timeout: 5 * time.Second},
	}, HostConfig: &container.HostConfig{Init: new(true)}})
	return err
}

// wake starts the containers that stay, for the time of a day: what is measured is measured at rest.
func (s *Soak) wake(ctx context.Context) error {
	for i := range residents {
		if _, err := s.docker.ContainerStart(ctx, fmt.Sprintf("resident-%d", i), client.ContainerStartOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Soak) sleep(ctx context.Context) error {
	for i := range residents {
		if _, err := s.docker.ContainerStop(ctx, fmt.Sprintf("resident-%d", i), client.ContainerStopOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// Day does a share of a day's chores (1 is all of them), in no order, and every kind at least twice. It ends early when the
// context does. It returns how many were done.
func (s *Soak) Day(ctx context.Context, share float64) (int, error) {
	var deck []chore
	for _, c := range s.chores() {
		deck = append(deck, slices.Repeat([]chore{c}, max(2, int(float64(c.perDay)*share)))...)
	}
	if err := s.wake(ctx); err != nil {
		return 0, err
	}
	rand.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, s.parallel)
	for w := range s.parallel {
		wg.Go(func() {
			for errs[w] == nil && ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(deck)) {
					return
				}
				errs[w] = s.do(deck[i])
			}
		})
	}
	wg.Wait()
	errs = append(errs, s.sleep(ctx))
	return min(int(next.Load()), len(deck)), errors.Join(errs...)
}

// choreMax bounds one chore: one that hangs is a failure with a name.
const choreMax = time.Minute

func (s *Soak) do(c chore) error {
	ctx, cancel := context.WithTimeout(context.Background(), choreMax)
	defer cancel()
	begin := time.Now()
	if err := c.do(ctx); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.tally[c.name]
	if f == nil {
		f = new(figures)
		s.tally[c.name] = f
	}
	f.times++
	f.took += time.Since(begin)
	return nil
}

// Table says how often each chore was done and how long one took in the mean.
func (s *Soak) Table() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%-34s %9s %9s %10s\n", "", "a day", "done", "mean ms")
	for _, c := range s.chores() {
		if f := s.tally[c.name]; f != nil {
			fmt.Fprintf(&b, "%-34s %9d %9d %10.2f\n", c.name, c.perDay, f.times, float64(f.took.Microseconds())/1000/float64(f.times))
		}
	}
	return b.String()
}
