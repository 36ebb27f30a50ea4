package engine

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/network"
)

// statsEvery is the time between two samples.
const statsEvery = time.Second

// Stats calls fn for each sample until ctx ends; once with stream false, with the sample of a second before as precpu
// unless oneShot. A container that does not run has empty samples.
func (e *Engine) Stats(ctx context.Context, name string, stream, oneShot bool, fn func(*docker.StatsResponse) error) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	var before *docker.StatsResponse
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	_, gone := c.signals()
	for first := true; ; first = false {
		s, err := e.sample(c)
		if err != nil {
			return err
		}
		if before != nil {
			s.PreRead, s.PreCPUStats = before.Read, before.CPUStats
		}
		_, st := c.look()
		if stream || oneShot || !first || !st.Phase.alive() {
			if err := fn(s); err != nil || !stream {
				return err
			}
		}
		before = s
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		case <-gone.done:
			return nil
		}
	}
}

// sample reads everything once.
func (e *Engine) sample(c *container) (*docker.StatsResponse, error) {
	d, st := c.look()
	s := &docker.StatsResponse{}
	if st.Phase.alive() {
		g, err := cgroup.Load(st.Cgroup)
		if err == nil {
			s, err = g.Stats()
		}
		if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err != nil { // It has just ended.
			s = &docker.StatsResponse{}
		} else {
			e.complement(s, st)
		}
	}
	s.ID, s.Name, s.OSType, s.Read = d.ID, "/"+d.Name, "linux", time.Now().UTC()
	return s, nil
}

// complement adds what the groups do not know.
func (e *Engine) complement(s *docker.StatsResponse, st state) {
	s.CPUStats.SystemUsage = systemUsage()
	if s.CPUStats.OnlineCPUs == 0 {
		s.CPUStats.OnlineCPUs = uint32(e.host.CPUs)
	}
	if total := uint64(e.facts.MemTotal); total > 0 && (s.MemoryStats.Limit == 0 || s.MemoryStats.Limit > total) {
		s.MemoryStats.Limit = total
	}
	if len(st.Networks) > 0 {
		s.Networks, _ = network.Stats(st.PID) // The process may have just ended.
	}
}

// systemUsage is the time that all processors have spent, in nanoseconds: what docker's clients divide by.
func systemUsage() uint64 {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return 0
	}
	fields := strings.Fields(line)
	var ticks uint64
	for _, text := range fields[1:min(8, len(fields))] {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return ticks * 10_000_000 // The kernel tells hundredths of a second.
}
