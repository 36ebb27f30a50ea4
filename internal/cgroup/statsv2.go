package cgroup

import (
	"strings"

	"github.com/moby/moby/api/types/container"
)

func (g *Group) cpuV2(s *container.StatsResponse) error {
	t, err := g.h.unified.table(g.rel, "cpu.stat")
	if err != nil {
		return err
	}
	const nanoseconds = 1000 // docker counts in them, version 2 in microseconds
	s.CPUStats.CPUUsage = container.CPUUsage{
		TotalUsage:        t["usage_usec"] * nanoseconds,
		UsageInKernelmode: t["system_usec"] * nanoseconds,
		UsageInUsermode:   t["user_usec"] * nanoseconds,
	}
	s.CPUStats.ThrottlingData = container.ThrottlingData{
		Periods: t["nr_periods"], ThrottledPeriods: t["nr_throttled"], ThrottledTime: t["throttled_usec"] * nanoseconds,
	}
	return nil
}

func (g *Group) memoryV2(s *container.StatsResponse) error {
	d, m := g.h.unified, &s.MemoryStats
	var err error
	if m.Usage, err = d.number(g.rel, "memory.current"); err != nil {
		return err
	}
	if m.MaxUsage, err = d.number(g.rel, "memory.peak"); err != nil {
		return err
	}
	if m.Limit, err = d.number(g.rel, "memory.max"); err != nil {
		return err
	}
	if m.Stats, err = d.table(g.rel, "memory.stat"); err != nil {
		return err
	}
	events, err := d.table(g.rel, "memory.events")
	if err != nil {
		return err
	}
	m.Failcnt = events["oom"]
	return g.h.capLimit(m)
}

// blockV2 reads io.stat: "8:0 rbytes=1 wbytes=2 ...".
func (g *Group) blockV2(s *container.StatsResponse) error {
	text, err := g.h.unified.read(g.rel, "io.stat")
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		major, minor, ok := parseDevice(f[0])
		if !ok {
			continue
		}
		for _, kv := range f[1:] {
			key, value, _ := strings.Cut(kv, "=")
			op := map[string]string{"rbytes": "read", "wbytes": "write"}[key]
			if op == "" {
				continue
			}
			s.BlkioStats.IoServiceBytesRecursive = append(s.BlkioStats.IoServiceBytesRecursive,
				container.BlkioStatEntry{Major: major, Minor: minor, Op: op, Value: parseNumber(value)})
		}
	}
	return nil
}
