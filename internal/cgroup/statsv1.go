package cgroup

import (
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

func (g *Group) cpuV1(s *container.StatsResponse) error {
	if d := g.dir("cpuacct"); d != nil {
		u := &s.CPUStats.CPUUsage
		var err error
		if u.TotalUsage, err = d.number(g.rel, "cpuacct.usage"); err != nil {
			return err
		}
		if err := g.percpu(d, u); err != nil {
			return err
		}
	}
	d := g.dir("cpu")
	if d == nil {
		return nil
	}
	t, err := d.table(g.rel, "cpu.stat")
	if err != nil {
		return err
	}
	s.CPUStats.ThrottlingData = container.ThrottlingData{
		Periods: t["nr_periods"], ThrottledPeriods: t["nr_throttled"], ThrottledTime: t["throttled_time"],
	}
	return nil
}

// percpu reads cpuacct.usage_all: one line for each processor, with the time in user and in kernel mode.
func (g *Group) percpu(d *hierarchy, u *container.CPUUsage) error {
	all, err := d.read(g.rel, "cpuacct.usage_all")
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(all) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] == "cpu" {
			continue
		}
		user, kernel := parseNumber(f[1]), parseNumber(f[2])
		u.UsageInUsermode += user
		u.UsageInKernelmode += kernel
		u.PercpuUsage = append(u.PercpuUsage, user+kernel)
	}
	return nil
}

func (g *Group) memoryV1(s *container.StatsResponse) error {
	d := g.dir("memory")
	if d == nil {
		return nil
	}
	m := &s.MemoryStats
	for file, to := range map[string]*uint64{
		"memory.usage_in_bytes": &m.Usage, "memory.max_usage_in_bytes": &m.MaxUsage,
		"memory.failcnt": &m.Failcnt, "memory.limit_in_bytes": &m.Limit,
	} {
		n, err := d.number(g.rel, file)
		if err != nil {
			return err
		}
		*to = n
	}
	var err error
	if m.Stats, err = d.table(g.rel, "memory.stat"); err != nil {
		return err
	}
	return g.h.capLimit(m)
}

// blockV1 reads what the throttling layer counts, which is there whatever the disk's scheduler.
func (g *Group) blockV1(s *container.StatsResponse) error {
	none := []container.BlkioStatEntry{} // Lists, as docker has them: programs loop over them.
	s.BlkioStats = container.BlkioStats{
		IoServiceBytesRecursive: none, IoServicedRecursive: none, IoQueuedRecursive: none, IoServiceTimeRecursive: none,
		IoWaitTimeRecursive: none, IoMergedRecursive: none, IoTimeRecursive: none, SectorsRecursive: none,
	}
	d := g.dir("blkio")
	if d == nil {
		return nil
	}
	b := &s.BlkioStats
	for file, to := range map[string]*[]container.BlkioStatEntry{
		"blkio.throttle.io_service_bytes_recursive": &b.IoServiceBytesRecursive,
		"blkio.throttle.io_serviced_recursive":      &b.IoServicedRecursive,
	} {
		text, err := d.read(g.rel, file)
		if absent(err) {
			continue
		}
		if err != nil {
			return err
		}
		if list := parseBlkio(text); list != nil {
			*to = list
		}
	}
	return nil
}

// parseBlkio reads lines of "major:minor operation number".
func parseBlkio(text string) []container.BlkioStatEntry {
	var out []container.BlkioStatEntry
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue // the grand total
		}
		if major, minor, ok := parseDevice(f[0]); ok {
			out = append(out, container.BlkioStatEntry{Major: major, Minor: minor, Op: f[1], Value: parseNumber(f[2])})
		}
	}
	return out
}

func parseDevice(s string) (major, minor uint64, ok bool) {
	left, right, ok := strings.Cut(s, ":")
	major, err1 := strconv.ParseUint(left, 10, 32)
	minor, err2 := strconv.ParseUint(right, 10, 32)
	return major, minor, ok && err1 == nil && err2 == nil
}
