package spec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// minMemory is docker's: less does not start a container.
const minMemory = 6 << 20

// ValidateUpdate checks resources for docker update; what the host cannot do is taken out and warned of.
func ValidateUpdate(r container.Resources, h Host) (container.Resources, []string, error) {
	b := builder{in: Input{Host: h}, host: &container.HostConfig{}, config: &container.Config{}}
	out, err := b.checkResources(r, true)
	return out, b.warnings, err
}

// checkResources refuses, in docker's words, what makes no sense, and takes out what this host cannot enforce.
func (b *builder) checkResources(r container.Resources, update bool) (container.Resources, error) {
	for _, check := range []func(*container.Resources, bool) error{
		b.checkMemory, b.checkOOMAndPids, b.checkCPU, b.checkCpuset, b.checkBlkio,
	} {
		if err := check(&r, update); err != nil {
			return r, err
		}
	}
	return r, nil
}

// can tells whether the host has a control.
func (b *builder) can(has func(*Controls) bool) bool {
	return b.in.Host.Controls == nil || has(b.in.Host.Controls)
}

func (b *builder) checkMemory(r *container.Resources, update bool) error {
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil // docker's word for "the default"
	}
	if r.Memory != 0 && r.Memory < minMemory {
		return tryInstead("--memory 6m, or more", invalid("memory-minimum", "Minimum memory limit allowed is 6MB"))
	}
	if r.Memory > 0 && !b.can(func(c *Controls) bool { return c.Memory }) {
		b.warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !b.can(func(c *Controls) bool { return c.Swap }) {
		b.warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return invalid("memory-swap", "Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if r.Memory == 0 && r.MemorySwap > 0 && !update {
		return invalid("memory-swap", "You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	if r.MemorySwap < -1 {
		return invalid("memory-swap", "invalid memoryswap limit %d", r.MemorySwap)
	}
	if r.MemorySwappiness != nil && !b.can(func(c *Controls) bool { return c.Swappiness }) {
		b.warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if s := r.MemorySwappiness; s != nil && (*s < 0 || *s > 100) {
		return invalid("memory-swappiness", "Invalid value: %v, valid memory swappiness range is 0-100", *s)
	}
	return b.checkReservation(r)
}

func (b *builder) checkReservation(r *container.Resources) error {
	if r.MemoryReservation > 0 && !b.can(func(c *Controls) bool { return c.Reservation }) {
		b.warn("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.MemoryReservation != 0 && r.MemoryReservation < minMemory {
		return invalid("memory-reservation", "Minimum memory reservation allowed is 6MB")
	}
	if r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation {
		return invalid("memory-reservation", "Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func (b *builder) checkOOMAndPids(r *container.Resources, _ bool) error {
	if d := r.OomKillDisable; d != nil && *d {
		switch {
		case !b.can(func(c *Controls) bool { return c.OomKillDisable }):
			b.warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
			r.OomKillDisable = nil
		case r.Memory == 0:
			b.warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
		}
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 && !b.can(func(c *Controls) bool { return c.Pids }) {
		b.warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		r.PidsLimit = nil
	}
	return nil
}

// leastCPUs is a quota of 1 ms in a period of 100 ms, the least that the kernel takes, in billionths of a processor.
const leastCPUs = 1e7

func (b *builder) checkCPU(r *container.Resources, _ bool) error {
	cfs := b.can(func(c *Controls) bool { return c.CPUCFS })
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return invalid("conflict-cpus", "Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return invalid("conflict-cpus", "Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs > 0 && !cfs:
		return invalid("no-cfs", "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	case r.NanoCPUs < 0 || b.in.Host.CPUs > 0 && r.NanoCPUs > int64(b.in.Host.CPUs)*1e9:
		return tryInstead(fmt.Sprintf("--cpus %d, or less", b.in.Host.CPUs),
			invalid("cpus-range", "Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", b.in.Host.CPUs, b.in.Host.CPUs))
	case r.NanoCPUs > 0 && r.NanoCPUs < leastCPUs:
		return tryInstead("--cpus 0.01, or more", invalid("cpus-range", "Range of CPUs is from 0.01 to %d.00: the kernel shares out no less", max(b.in.Host.CPUs, 1)))
	case r.CPUShares < 0:
		return invalid("cpu-shares", "invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	if r.CPUShares > 0 && !b.can(func(c *Controls) bool { return c.CPUShares }) {
		b.warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !cfs {
		b.warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if (r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0) && !b.can(func(c *Controls) bool { return c.CPURealtime }) {
		return invalid("cpu-realtime", "kernel does not support CPU real-time scheduler")
	}
	if r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod {
		return invalid("cpu-realtime", "cpu real-time runtime cannot be higher than cpu real-time period")
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000) {
		return invalid("cpu-period", "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		return invalid("cpu-quota", "CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if r.CPUPercent > 0 {
		b.warn("linux does not support CPU percent. Percent discarded.")
	}
	return nil
}

func (b *builder) checkCpuset(r *container.Resources, _ bool) error {
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !b.can(func(c *Controls) bool { return c.Cpuset }) {
		b.warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	for _, set := range []struct{ word, noun, wish, have string }{
		{"cpus", "CPUs", r.CpusetCpus, b.in.Host.CpusetCpus},
		{"mems", "memory nodes", r.CpusetMems, b.in.Host.CpusetMems},
	} {
		wish, err := parseSet(set.wish)
		if err != nil {
			return invalid("cpuset", "Invalid value %s for cpuset %s", set.wish, set.word)
		}
		have, err := parseSet(set.have)
		if err != nil || set.have == "" {
			continue
		}
		for n := range wish {
			if !have[n] {
				return invalid("cpuset", "Requested %s are not available - requested %s, available: %s", set.noun, set.wish, set.have)
			}
		}
	}
	return nil
}

// parseSet reads a list of numbers and ranges: "0-2,7". A bound keeps "0-4294967295" from filling the memory.
func parseSet(s string) (map[int]bool, error) {
	out := map[int]bool{}
	if s == "" {
		return out, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		lo, err := strconv.ParseUint(first, 10, 13)
		if err != nil {
			return nil, err
		}
		hi := lo
		if isRange {
			if hi, err = strconv.ParseUint(last, 10, 13); err != nil {
				return nil, err
			}
		}
		if hi < lo {
			return nil, strconv.ErrRange
		}
		for n := lo; n <= hi; n++ {
			out[int(n)] = true
		}
	}
	return out, nil
}

func (b *builder) checkBlkio(r *container.Resources, _ bool) error {
	if r.BlkioWeight > 0 && !b.can(func(c *Controls) bool { return c.BlkioWeight }) {
		b.warn("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return invalid("blkio-weight", "Range of blkio weight is from 10 to 1000")
	}
	if r.IOMaximumBandwidth != 0 || r.IOMaximumIOps != 0 {
		return invalid("io-maximum", "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps")
	}
	if len(r.BlkioWeightDevice) > 0 && !b.can(func(c *Controls) bool { return c.BlkioWeightDevice }) {
		b.warn("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = nil
	}
	if !b.can(func(c *Controls) bool { return c.BlkioThrottle }) {
		b.discardThrottles(r)
	}
	return nil
}

func (b *builder) discardThrottles(r *container.Resources) {
	const words = "Your kernel does not support %s limit or the cgroup is not mounted. Block I/O %s limit discarded."
	discard := func(n int, what, discarded string) {
		if n > 0 {
			b.warn(strings.Replace(strings.Replace(words, "%s", what, 1), "%s", discarded, 1))
		}
	}
	discard(len(r.BlkioDeviceReadBps), "BPS Block I/O read", "BPS read")
	discard(len(r.BlkioDeviceWriteBps), "BPS Block I/O write", "BPS write")
	discard(len(r.BlkioDeviceReadIOps), "IOPS Block read", "IOPS read")
	discard(len(r.BlkioDeviceWriteIOps), "IOPS Block write", "IOPS write")
	r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = nil, nil, nil, nil
}
