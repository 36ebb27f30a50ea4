package cgroup

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Features are what this host's control groups can do.
type Features struct {
	// Version is 1 or 2; a hybrid set-up has its controllers on version 1.
	Version int
	// Systemd tells whether the systemd driver can be used.
	Systemd bool

	Memory, Swap, Swappiness, Reservation, OomKillDisable bool
	CPUShares, CPUCFS, CPURealtime, Cpuset, Pids          bool
	BlkioWeight, BlkioWeightDevice, BlkioThrottle         bool
	// CpusetCpus and CpusetMems are what a cpuset may choose from; empty means unknown.
	CpusetCpus, CpusetMems string
}

// Probe looks at the host's control groups.
func Probe() (Features, error) {
	h, err := system()
	if err != nil {
		return Features{}, err
	}
	f, err := h.features()
	f.Systemd = systemdRuns()
	return f, err
}

// systemdRuns: systemd itself says so with this directory, see sd_booted(3).
func systemdRuns() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

func (h *hierarchies) features() (Features, error) {
	if h.v2() {
		return h.featuresV2()
	}
	has := func(controller, file string) bool {
		d := h.of(controller)
		return d != nil && unix.Faccessat(d.fd, file, unix.F_OK, 0) == nil
	}
	f := Features{
		Version:           1,
		Memory:            has("memory", "memory.limit_in_bytes"),
		Swap:              has("memory", "memory.memsw.limit_in_bytes"),
		Swappiness:        has("memory", "memory.swappiness"),
		Reservation:       has("memory", "memory.soft_limit_in_bytes"),
		OomKillDisable:    has("memory", "memory.oom_control"),
		CPUShares:         has("cpu", "cpu.shares"),
		CPUCFS:            has("cpu", "cpu.cfs_quota_us"),
		CPURealtime:       has("cpu", "cpu.rt_runtime_us"),
		Cpuset:            has("cpuset", "cpuset.cpus"),
		Pids:              h.of("pids") != nil,
		BlkioWeight:       has("blkio", "blkio.weight"),
		BlkioWeightDevice: has("blkio", "blkio.weight_device"),
		BlkioThrottle:     has("blkio", "blkio.throttle.read_bps_device"),
	}
	var err error
	if f.Cpuset {
		f.CpusetCpus, f.CpusetMems, err = h.of("cpuset").available("cpuset.cpus", "cpuset.mems")
	}
	return f, err
}

func (h *hierarchies) featuresV2() (Features, error) {
	d := h.unified
	list, err := d.read(".", "cgroup.controllers")
	if err != nil {
		return Features{Version: 2}, err
	}
	has := func(c string) bool { return slices.Contains(strings.Fields(list), c) }
	f := Features{
		Version: 2,
		Memory:  has("memory"), Swap: has("memory"), Reservation: has("memory"),
		CPUShares: has("cpu"), CPUCFS: has("cpu"), Cpuset: has("cpuset"), Pids: has("pids"),
		BlkioWeight: has("io"), BlkioWeightDevice: has("io"), BlkioThrottle: has("io"),
	}
	if f.Cpuset {
		f.CpusetCpus, f.CpusetMems, err = d.available("cpuset.cpus.effective", "cpuset.mems.effective")
	}
	return f, err
}

func (d *hierarchy) available(cpusFile, memsFile string) (cpus, mems string, err error) {
	cpus, err1 := d.read(".", cpusFile)
	mems, err2 := d.read(".", memsFile)
	for _, err := range []error{err1, err2} {
		if err != nil && !absent(err) {
			return "", "", errors.Join(err1, err2)
		}
	}
	return strings.TrimSpace(cpus), strings.TrimSpace(mems), nil
}
