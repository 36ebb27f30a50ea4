package hostinfo

import (
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/system"
)

// Fill sets what docker info shows of the machine.
func (f *Facts) Fill(i *system.Info) {
	g := f.Cgroups
	i.MemoryLimit, i.SwapLimit, i.OomKillDisable = g.Memory, g.Swap, g.OomKillDisable
	i.CPUCfsPeriod, i.CPUCfsQuota, i.CPUShares, i.CPUSet, i.PidsLimit = g.CPUCFS, g.CPUCFS, g.CPUShares, g.Cpuset, g.Pids
	i.IPv4Forwarding = f.IPv4Forwarding
	i.CgroupDriver, i.CgroupVersion = "cgroupfs", strconv.Itoa(g.Version)
	if f.Host.SystemdCgroup {
		i.CgroupDriver = "systemd"
	}
	i.KernelVersion, i.OperatingSystem, i.OSVersion = f.KernelVersion, f.OperatingSystem, f.OSVersion
	i.OSType, i.Architecture, i.Name = "linux", f.Architecture, f.Host.Hostname
	i.NCPU, i.MemTotal = f.Host.CPUs, f.MemTotal
	i.SecurityOptions = f.securityOptions()
	i.Warnings = append(i.Warnings, f.warnings()...)
}

func (f *Facts) securityOptions() []string {
	var out []string
	add := func(has bool, option string) {
		if has {
			out = append(out, option)
		}
	}
	add(f.Host.AppArmor && slices.Contains(f.Host.AppArmorProfiles, "docker-default"), "name=apparmor")
	add(f.Host.Seccomp, "name=seccomp,profile=builtin")
	add(f.Host.SELinux, "name=selinux")
	add(f.Host.Rootless, "name=rootless")
	add(f.Host.CgroupV2, "name=cgroupns")
	return out
}

// warnings are docker's words for what the machine cannot do.
func (f *Facts) warnings() []string {
	var out []string
	for _, w := range []struct {
		has  bool
		what string
	}{
		{f.Cgroups.Memory, "No memory limit support"},
		{f.Cgroups.Swap, "No swap limit support"},
		{f.Cgroups.OomKillDisable || f.Cgroups.Version == 2, "No oom kill disable support"},
		{f.Cgroups.CPUCFS, "No cpu cfs quota support"},
		{f.Cgroups.CPUCFS, "No cpu cfs period support"},
		{f.Cgroups.CPUShares, "No cpu shares support"},
		{f.Cgroups.Cpuset, "No cpuset support"},
		{f.Cgroups.Pids, "No pids limit support"},
		{f.IPv4Forwarding, "IPv4 forwarding is disabled"},
	} {
		if !w.has {
			out = append(out, "WARNING: "+w.what)
		}
	}
	return out
}
