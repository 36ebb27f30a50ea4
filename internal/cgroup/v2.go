package cgroup

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func (g *Group) setUpV2(r *specs.LinuxResources) ([]string, error) {
	d := g.h.unified
	list, warnings, err := settingsV2(r)
	if err != nil {
		return nil, err
	}
	if g.unit != nil {
		g.dirs = append(g.dirs, d) // systemd made it
	} else if err := g.make(d); err != nil {
		return nil, err
	}
	// The accounting files are there if the parents pass the controllers on, which they do once the first group was made.
	if !d.has(g.rel+"/memory.current") || !d.has(g.rel+"/pids.current") {
		if err := d.delegate(g.rel); err != nil {
			return nil, err
		}
	}
	w, err := g.apply(list)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, w...)
	if restrictsDevices(r.Devices) {
		if inUserNamespace() {
			return append(warnings, noDevices), nil
		}
		if err := g.restrictDevicesV2(r.Devices); err != nil {
			return nil, err
		}
	}
	return warnings, nil
}

// delegate makes every group above rel pass its controllers on to its children.
func (d *hierarchy) delegate(rel string) error {
	up := ""
	for {
		available, err := d.read(path.Join(".", up), "cgroup.controllers")
		if err != nil {
			return err
		}
		enabled, err := d.read(path.Join(".", up), "cgroup.subtree_control")
		if err != nil {
			return err
		}
		if err := d.enable(path.Join(".", up), strings.Fields(available), strings.Fields(enabled)); err != nil {
			return err
		}
		rest := strings.TrimPrefix(strings.TrimPrefix(rel, up), "/")
		next, _, more := strings.Cut(rest, "/")
		if !more {
			return nil
		}
		up = path.Join(up, next)
	}
}

// enable turns controllers on one by one: one that cannot be (a realtime process keeps cpu from it, a process in an inner
// group keeps all) must not keep the others from it. Limits that need it are warned of when they are written.
func (d *hierarchy) enable(rel string, available, enabled []string) error {
	on := make(map[string]bool, len(enabled))
	for _, c := range enabled {
		on[c] = true
	}
	for _, c := range available {
		if on[c] {
			continue
		}
		err := d.write(rel, "cgroup.subtree_control", "+"+c)
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP),
			errors.Is(err, unix.EBUSY):
		default:
			return err
		}
	}
	return nil
}

// settingsV2 are the files of version 2 for the limits of r, devices apart.
func settingsV2(r *specs.LinuxResources) (list []setting, warnings []string, err error) {
	var s settings
	if m := r.Memory; m != nil {
		if warnings, err = s.memoryV2(m); err != nil {
			return nil, nil, err
		}
	}
	if c := r.CPU; c != nil {
		if w := s.cpuV2(c); w != "" {
			warnings = append(warnings, w)
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		s.add("pids", "pids.max", limitOrMax(*p.Limit), noPids)
	}
	if b := r.BlockIO; b != nil {
		s.blockV2(b)
	}
	for _, l := range r.HugepageLimits {
		if err := checkPagesize(l.Pagesize); err != nil {
			return nil, nil, err
		}
		s.add("hugetlb", "hugetlb."+l.Pagesize+".max", utoa(l.Limit), noHugetlb)
		s.add("hugetlb", "hugetlb."+l.Pagesize+".rsvd.max", utoa(l.Limit), noHugetlb)
	}
	if r.Network != nil && (r.Network.ClassID != nil || len(r.Network.Priorities) > 0) {
		warnings = append(warnings, noNetwork)
	}
	s.rdma(r.Rdma)
	for _, file := range sortedKeys(r.Unified) {
		if strings.ContainsRune(file, '/') || strings.HasPrefix(file, "cgroup.procs") || strings.HasPrefix(file, "cgroup.threads") {
			return nil, nil, fmt.Errorf("unified resource %q is not a file of a group: %w", file, errdefs.ErrInvalidArgument)
		}
		controller, _, _ := strings.Cut(file, ".")
		s.add(controller, file, r.Unified[file], "")
	}
	return s.list, warnings, nil
}

// memoryV2: OCI's swap is memory and swap together, version 2's is swap alone.
func (s *settings) memoryV2(m *specs.LinuxMemory) (warnings []string, err error) {
	if m.Swap != nil && *m.Swap != 0 {
		swap := *m.Swap
		if swap > 0 {
			if m.Limit == nil || *m.Limit <= 0 {
				return nil, fmt.Errorf("a limit of memory with swap (%d) needs a limit of memory: %w", swap, errdefs.ErrInvalidArgument)
			}
			if swap -= *m.Limit; swap < 0 {
				return nil, fmt.Errorf("memory with swap (%d) is less than memory (%d): %w", *m.Swap, *m.Limit, errdefs.ErrInvalidArgument)
			}
			s.add("memory", "memory.swap.max", itoa(swap), noSwap)
		} else {
			s.add("memory", "memory.swap.max", "max", noSwap)
		}
	}
	if m.Limit != nil && *m.Limit != 0 {
		s.add("memory", "memory.max", limitOrMax(*m.Limit), noMemory)
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		s.add("memory", "memory.low", limitOrMax(*m.Reservation), noReservation)
	}
	if m.KernelTCP != nil && *m.KernelTCP != 0 {
		warnings = append(warnings, noKernelTCP)
	}
	if m.Swappiness != nil {
		warnings = append(warnings, noSwappiness)
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		warnings = append(warnings, noOOMControl)
	}
	return warnings, nil
}

func (s *settings) cpuV2(c *specs.LinuxCPU) (warning string) {
	if c.Shares != nil && *c.Shares != 0 {
		s.add("cpu", "cpu.weight", utoa(cpuWeight(*c.Shares)), noShares)
	}
	quota, period := "", ""
	if c.Quota != nil && *c.Quota != 0 {
		quota = limitOrMax(*c.Quota)
	}
	if c.Period != nil && *c.Period != 0 {
		period = " " + utoa(*c.Period)
		if quota == "" {
			quota = "max"
		}
	}
	if quota != "" {
		s.add("cpu", "cpu.max", quota+period, noCFS)
	}
	if c.Burst != nil {
		s.add("cpu", "cpu.max.burst", utoa(*c.Burst), noBurst)
	}
	if c.Idle != nil {
		s.add("cpu", "cpu.idle", itoa(*c.Idle), noIdle)
	}
	s.cpuset(c)
	if c.RealtimePeriod != nil || c.RealtimeRuntime != nil {
		return noRealtime
	}
	return ""
}

// cpuWeight maps shares (2 to 262144) to weights (1 to 10000) linearly, as the other engines do, so that a container weighs
// the same under each of them.
func cpuWeight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

// weight: which file is there depends on the disk's scheduler. Bfq's goes to 1000 as docker's does, the other one to 10000.
func (s *settings) weight(device string, weight uint16, missing string) {
	other := 1 + (uint64(max(weight, 10))-10)*9999/990
	s.list = append(s.list, setting{
		controller: "io", file: "io.bfq.weight", value: device + utoa(weight), missing: missing,
		instead: &setting{controller: "io", file: "io.weight", value: device + utoa(other)},
	})
}

func (s *settings) blockV2(b *specs.LinuxBlockIO) {
	if b.Weight != nil && *b.Weight != 0 {
		s.weight("", *b.Weight, noWeight)
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			s.weight(device(d.LinuxBlockIODevice)+" ", *d.Weight, noWeightDev)
		}
	}
	for _, t := range []struct {
		key, missing string
		list         []specs.LinuxThrottleDevice
	}{
		{"rbps", noReadBps, b.ThrottleReadBpsDevice},
		{"wbps", noWriteBps, b.ThrottleWriteBpsDevice},
		{"riops", noReadIOps, b.ThrottleReadIOPSDevice},
		{"wiops", noWriteIOps, b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.list {
			rate := "max"
			if d.Rate > 0 {
				rate = utoa(d.Rate)
			}
			s.add("io", "io.max", device(d.LinuxBlockIODevice)+" "+t.key+"="+rate, t.missing)
		}
	}
}
