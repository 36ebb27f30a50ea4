package cgroup

import (
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
)

// Stats fills docker's fields for cpu, precpu-independent parts, memory, pids and block input/output.
func (g *Group) Stats() (*container.StatsResponse, error) {
	s := &container.StatsResponse{OSType: "linux", Read: time.Now().UTC()}
	fill := []func(*container.StatsResponse) error{g.cpuV1, g.memoryV1, g.pidsStats, g.blockV1}
	if g.h.v2() {
		fill = []func(*container.StatsResponse) error{g.cpuV2, g.memoryV2, g.pidsStats, g.blockV2}
	}
	for _, f := range fill {
		if err := f(s); err != nil {
			return nil, fmt.Errorf("reading statistics of cgroup %s: %w", g.path, err)
		}
	}
	if err := g.h.systemCPU(&s.CPUStats); err != nil {
		return nil, err
	}
	return s, nil
}

func (g *Group) pidsStats(s *container.StatsResponse) error {
	d := g.dir("pids")
	if d == nil {
		return nil
	}
	var err error
	if s.PidsStats.Current, err = d.number(g.rel, "pids.current"); err != nil {
		return err
	}
	s.PidsStats.Limit, err = d.number(g.rel, "pids.max")
	return err
}

// OOMKills is how many processes of the group the kernel has killed for want of memory; peak is the highest use of
// memory in bytes and limit the limit (0: none or unknown).
func (g *Group) OOMKills() (kills, peak, limit uint64, err error) {
	d := g.dir("memory")
	if d == nil {
		return 0, 0, 0, nil
	}
	events, peakFile, limitFile, table := "memory.oom_control", "memory.max_usage_in_bytes", "memory.limit_in_bytes", "oom_kill"
	if g.h.v2() {
		events, peakFile, limitFile = "memory.events", "memory.peak", "memory.max"
	}
	counts, err := d.table(g.rel, events)
	if err != nil {
		return 0, 0, 0, err
	}
	if peak, err = d.number(g.rel, peakFile); err != nil {
		return 0, 0, 0, err
	}
	if limit, err = d.number(g.rel, limitFile); err != nil {
		return 0, 0, 0, err
	}
	if limit >= unlimited {
		limit = 0
	}
	return counts[table], peak, limit, nil
}
