package cgroup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// accounting are the controllers that every group uses.
var accounting = []string{"memory", "pids", "cpuacct"}

func (g *Group) setUpV1(r *specs.LinuxResources) ([]string, error) {
	list, err := settingsV1(r)
	if err != nil {
		return nil, err
	}
	restricted := restrictsDevices(r.Devices) && !inUserNamespace()
	need := slices.Clone(accounting)
	for _, s := range list {
		need = appendNew(need, s.controller)
	}
	if restricted {
		need = appendNew(need, "devices")
	}
	if g.unit != nil {
		g.adopt()
	}
	for _, c := range need {
		d := g.h.of(c)
		if d == nil || slices.Contains(g.dirs, d) {
			continue // a missing one is told of where it is used
		}
		if err := g.make(d); err != nil {
			return nil, err
		}
	}
	warnings, err := g.apply(list)
	if err != nil {
		return nil, err
	}
	if restricted {
		w, err := g.restrictDevicesV1(r.Devices)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, w...)
	}
	return warnings, nil
}

// settingsV1 are the files of version 1 for the limits of r, devices apart.
func settingsV1(r *specs.LinuxResources) ([]setting, error) {
	if len(r.Unified) > 0 {
		return nil, fmt.Errorf("unified resources need cgroup version 2: %w", errdefs.ErrInvalidArgument)
	}
	var s settings
	if m := r.Memory; m != nil {
		s.memoryV1(m)
	}
	if c := r.CPU; c != nil {
		s.cpuV1(c)
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		s.add("pids", "pids.max", limitOrMax(*p.Limit), noPids)
	}
	if b := r.BlockIO; b != nil {
		s.blockV1(b)
	}
	for _, l := range r.HugepageLimits {
		if err := checkPagesize(l.Pagesize); err != nil {
			return nil, err
		}
		s.add("hugetlb", "hugetlb."+l.Pagesize+".limit_in_bytes", utoa(l.Limit), noHugetlb)
	}
	if n := r.Network; n != nil {
		if n.ClassID != nil {
			s.add("net_cls", "net_cls.classid", utoa(*n.ClassID), noNetwork)
		}
		for _, p := range n.Priorities {
			s.add("net_prio", "net_prio.ifpriomap", p.Name+" "+utoa(p.Priority), noNetwork)
		}
	}
	s.rdma(r.Rdma)
	return s.list, nil
}

// checkPagesize: the size becomes part of a file's name.
func checkPagesize(size string) error {
	if n := strings.TrimRight(size, "KMGB"); n == "" || n == size || strings.Trim(n, "0123456789") != "" {
		return fmt.Errorf("%q is not the size of a huge page: %w", size, errdefs.ErrInvalidArgument)
	}
	return nil
}

// settings collects them.
type settings struct{ list []setting }

func (s *settings) add(controller, file, value, missing string) {
	s.list = append(s.list, setting{controller: controller, file: file, value: value, missing: missing})
}

func (s *settings) memoryV1(m *specs.LinuxMemory) {
	if m.Limit != nil && *m.Limit != 0 {
		s.add("memory", "memory.limit_in_bytes", itoa(*m.Limit), noMemory)
	}
	if m.Swap != nil && *m.Swap != 0 {
		s.add("memory", "memory.memsw.limit_in_bytes", itoa(*m.Swap), noSwap)
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		s.add("memory", "memory.soft_limit_in_bytes", itoa(*m.Reservation), noReservation)
	}
	if m.KernelTCP != nil && *m.KernelTCP != 0 {
		s.add("memory", "memory.kmem.tcp.limit_in_bytes", itoa(*m.KernelTCP), noKernelTCP)
	}
	if m.Swappiness != nil {
		s.add("memory", "memory.swappiness", utoa(*m.Swappiness), noSwappiness)
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		s.add("memory", "memory.oom_control", "1", noOOMControl)
	}
}

func (s *settings) cpuV1(c *specs.LinuxCPU) {
	if c.Shares != nil && *c.Shares != 0 {
		s.add("cpu", "cpu.shares", utoa(*c.Shares), noShares)
	}
	if c.Period != nil && *c.Period != 0 {
		s.add("cpu", "cpu.cfs_period_us", utoa(*c.Period), noCFS)
	}
	if c.Quota != nil && *c.Quota != 0 {
		s.add("cpu", "cpu.cfs_quota_us", itoa(*c.Quota), noCFS)
	}
	if c.Burst != nil {
		s.add("cpu", "cpu.cfs_burst_us", utoa(*c.Burst), noBurst)
	}
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		s.add("cpu", "cpu.rt_period_us", utoa(*c.RealtimePeriod), noRealtime)
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		s.add("cpu", "cpu.rt_runtime_us", itoa(*c.RealtimeRuntime), noRealtime)
	}
	if c.Idle != nil {
		s.add("cpu", "cpu.idle", itoa(*c.Idle), noIdle)
	}
	s.cpuset(c)
}

func (s *settings) cpuset(c *specs.LinuxCPU) {
	if c.Cpus != "" {
		s.add("cpuset", "cpuset.cpus", c.Cpus, noCpuset)
	}
	if c.Mems != "" {
		s.add("cpuset", "cpuset.mems", c.Mems, noCpuset)
	}
}

func (s *settings) blockV1(b *specs.LinuxBlockIO) {
	if b.Weight != nil && *b.Weight != 0 {
		s.add("blkio", "blkio.weight", utoa(*b.Weight), noWeight)
	}
	if b.LeafWeight != nil && *b.LeafWeight != 0 {
		s.add("blkio", "blkio.leaf_weight", utoa(*b.LeafWeight), noWeight)
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			s.add("blkio", "blkio.weight_device", device(d.LinuxBlockIODevice)+" "+utoa(*d.Weight), noWeightDev)
		}
		if d.LeafWeight != nil {
			s.add("blkio", "blkio.leaf_weight_device", device(d.LinuxBlockIODevice)+" "+utoa(*d.LeafWeight), noWeightDev)
		}
	}
	for _, t := range []struct {
		file, missing string
		list          []specs.LinuxThrottleDevice
	}{
		{"blkio.throttle.read_bps_device", noReadBps, b.ThrottleReadBpsDevice},
		{"blkio.throttle.write_bps_device", noWriteBps, b.ThrottleWriteBpsDevice},
		{"blkio.throttle.read_iops_device", noReadIOps, b.ThrottleReadIOPSDevice},
		{"blkio.throttle.write_iops_device", noWriteIOps, b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.list {
			s.add("blkio", t.file, device(d.LinuxBlockIODevice)+" "+utoa(d.Rate), t.missing)
		}
	}
}

func (s *settings) rdma(limits map[string]specs.LinuxRdma) {
	for _, name := range sortedKeys(limits) {
		value, l := name, limits[name]
		if l.HcaHandles != nil {
			value += " hca_handle=" + utoa(*l.HcaHandles)
		}
		if l.HcaObjects != nil {
			value += " hca_object=" + utoa(*l.HcaObjects)
		}
		s.add("rdma", "rdma.max", value, noRdma)
	}
}

func device(d specs.LinuxBlockIODevice) string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func utoa[N uint16 | uint32 | uint64](n N) string { return strconv.FormatUint(uint64(n), 10) }

func limitOrMax(n int64) string {
	if n <= 0 {
		return "max"
	}
	return itoa(n)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
