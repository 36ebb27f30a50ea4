// Package hostinfo gathers the facts of the machine that containers' specifications and docker info need. It looks once, and
// changes nothing.
package hostinfo

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/spec"
)

// Facts are what is known of a machine.
type Facts struct {
	Host spec.Host
	// Cgroups are what the control groups can do.
	Cgroups cgroup.Features

	KernelVersion, OperatingSystem, OSVersion, Architecture string
	MemTotal                                                int64
	IPv4Forwarding                                          bool
}

// Probe looks at the machine.
func Probe() (*Facts, error) { return probe("/") }

// probe looks at the machine whose files are below root; what is not a file is this one's.
func probe(root string) (*Facts, error) {
	groups, err := cgroup.Probe()
	if err != nil {
		return nil, fmt.Errorf("looking at control groups: %w", err)
	}
	f := &Facts{Cgroups: groups}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("asking the kernel its name: %w", err)
	}
	f.KernelVersion = unix.ByteSliceToString(uts.Release[:])
	f.Architecture = unix.ByteSliceToString(uts.Machine[:])
	f.OperatingSystem, f.OSVersion = osRelease(root)
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return nil, fmt.Errorf("asking for the machine's memory: %w", err)
	}
	f.MemTotal = int64(si.Totalram * uint64(si.Unit))
	f.IPv4Forwarding = line(root, "proc/sys/net/ipv4/ip_forward") == "1"
	h := &f.Host
	*h = spec.Host{
		CgroupV2:         groups.Version == 2,
		SystemdCgroup:    groups.Version == 2 && groups.Systemd,
		AppArmor:         strings.HasPrefix(line(root, "sys/module/apparmor/parameters/enabled"), "Y"),
		SELinux:          exists(root, "sys/fs/selinux/enforce"),
		Rootless:         os.Geteuid() != 0 || rootless(root),
		KernelRelease:    f.KernelVersion,
		Hostname:         unix.ByteSliceToString(uts.Nodename[:]),
		CPUs:             cpus(),
		CpusetCpus:       groups.CpusetCpus,
		CpusetMems:       groups.CpusetMems,
		AppArmorProfiles: appArmorProfiles(root),
		Controls:         controls(groups),
	}
	h.MaskedPaths = thermal(root)
	h.Sysctls = sysctls(root)
	h.OOMScoreAdj, _ = strconv.Atoi(line(root, "proc/self/oom_score_adj")) // 0 where there is no such file
	h.Seccomp = unix.Prctl(unix.PR_GET_SECCOMP, 0, 0, 0, 0) != unix.EINVAL && exists(root, "proc/sys/kernel/seccomp/actions_avail")
	if h.Capabilities, err = capabilities(); err != nil {
		return nil, err
	}
	if h.RlimitHard, err = rlimits(); err != nil {
		return nil, err
	}
	if h.Devices, err = devices(path.Join(root, "dev")); err != nil {
		return nil, err
	}
	return f, nil
}

func controls(g cgroup.Features) *spec.Controls {
	return &spec.Controls{
		Memory: g.Memory, Swap: g.Swap, Swappiness: g.Swappiness, Reservation: g.Reservation, OomKillDisable: g.OomKillDisable,
		CPUShares: g.CPUShares, CPUCFS: g.CPUCFS, CPURealtime: g.CPURealtime, Cpuset: g.Cpuset, Pids: g.Pids,
		BlkioWeight: g.BlkioWeight, BlkioWeightDevice: g.BlkioWeightDevice, BlkioThrottle: g.BlkioThrottle,
	}
}

// cpus that this process may run on, as docker counts them.
func cpus() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return runtime.NumCPU()
	}
	return set.Count()
}

// line is the first line of a file, or nothing.
func line(root, name string) string {
	b, err := os.ReadFile(path.Join(root, name))
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(first)
}

func exists(root, name string) bool {
	_, err := os.Stat(path.Join(root, name))
	return err == nil
}

// osRelease reads os-release(5).
func osRelease(root string) (name, version string) {
	name = "Linux"
	for _, file := range []string{"etc/os-release", "usr/lib/os-release"} {
		b, err := os.ReadFile(path.Join(root, file))
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(strings.TrimSpace(l), "=")
			value = strings.Trim(value, `"'`)
			switch key {
			case "PRETTY_NAME":
				name = value
			case "VERSION_ID":
				version = value
			}
		}
		return name, version
	}
	return name, version
}

// rootless: in a user namespace whose root is not the machine's.
func rootless(root string) bool {
	f := strings.Fields(line(root, "proc/self/uid_map"))
	return len(f) == 3 && (f[0] != "0" || f[1] != "0" || f[2] != "4294967295")
}

func appArmorProfiles(root string) []string {
	f, err := os.Open(path.Join(root, "sys/kernel/security/apparmor/profiles"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, _, ok := strings.Cut(lines.Text(), " ("); ok {
			out = append(out, name)
		}
	}
	return out
}

// thermal are the files of each processor that tell its temperature's history, by which containers could tell each other
// things, and know the host again.
func thermal(root string) []string {
	entries, err := os.ReadDir(path.Join(root, "sys/devices/system/cpu"))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		n, ok := strings.CutPrefix(e.Name(), "cpu")
		if _, err := strconv.Atoi(n); !ok || err != nil {
			continue
		}
		file := "sys/devices/system/cpu/" + e.Name() + "/thermal_throttle"
		if exists(root, file) {
			out = append(out, "/"+file)
		}
	}
	return out
}

func sysctls(root string) []string {
	var out []string
	for _, key := range []string{spec.SysctlPing, spec.SysctlPortStart} {
		if exists(root, "proc/sys/"+strings.ReplaceAll(key, ".", "/")) {
			out = append(out, key)
		}
	}
	return out
}

// capabilities are those in this process's bounding set: a container can have no others.
func capabilities() ([]string, error) {
	var out []string
	for nr, name := range spec.AllCapabilities() {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(nr), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel is older than the capability
		}
		if err != nil {
			return nil, fmt.Errorf("reading the capability bounding set: %w", err)
		}
		if has == 1 {
			out = append(out, name)
		}
	}
	return out, nil
}

// isGone: a file went away while a directory was read.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
