// Package spec turns Docker's Config and HostConfig, with the facts of the host, into an OCI runtime specification. It is
// pure: the same input gives the same output, nothing is read or written.
package spec

import (
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Input is all that a specification depends on.
type Input struct {
	ID   string
	Name string
	// Config is the container's configuration, merged with its image's already.
	Config     *container.Config
	HostConfig *container.HostConfig
	// User is Config.User resolved against the image's passwd and group files.
	User User
	// Mounts are the volumes, binds and generated files (resolv.conf, hosts, hostname) in the order of mounting; they
	// come after the standard mounts and replace one with the same destination.
	Mounts []specs.Mount
	// Namespaces to join, by type, instead of new ones; an empty path means the host's own.
	Join map[specs.LinuxNamespaceType]string
	// Wired says that the network namespace has been made already, with the sysctls that every container gets.
	Wired bool
	// Devices that HostConfig.Devices named, looked up on the host.
	Devices []specs.LinuxDevice
	// DeviceRules are the cgroup rules for Devices.
	DeviceRules []specs.LinuxDeviceCgroup
	// DeviceNumbers are the major and minor numbers of the block devices that the Blkio fields name by path.
	DeviceNumbers map[string]specs.LinuxBlockIODevice
	// CgroupParent is the daemon's default; HostConfig.CgroupParent goes before it.
	CgroupParent string
	// InitPath is the path on the host of the init program for HostConfig.Init.
	InitPath string
	Host     Host
}

// Host is what a specification needs to know of the machine.
type Host struct {
	// Capabilities in the daemon's bounding set ("CAP_CHOWN"): what cannot be given is left out.
	Capabilities  []string
	CgroupV2      bool
	SystemdCgroup bool
	AppArmor      bool
	SELinux       bool
	Seccomp       bool
	Rootless      bool
	// KernelRelease as uname tells it.
	KernelRelease string
	// Devices that exist under /dev, for privileged containers.
	Devices []specs.LinuxDevice
	// RlimitHard are the hard limits of the daemon by name ("RLIMIT_NOFILE").
	RlimitHard map[string]uint64

	// Hostname of the machine, for containers in its network namespace.
	Hostname string
	// OOMScoreAdj of the daemon, which containers would inherit.
	OOMScoreAdj int
	// AppArmorProfiles that are loaded; "docker-default" is used only if it is among them.
	AppArmorProfiles []string
	// CPUs that are online; 0 means unknown.
	CPUs int
	// CpusetCpus and CpusetMems are what a cpuset may choose from ("0-3"); empty means unknown.
	CpusetCpus, CpusetMems string
	// MaskedPaths are paths of this machine to mask beside the standard ones (the processors' thermal_throttle).
	MaskedPaths []string
	// Sysctls that exist here of those that Build sets by itself ("net.ipv4.ping_group_range").
	Sysctls []string
	// Controls that the control groups of this host offer; nil means all.
	Controls *Controls
}

// Controls are the resource controls that a host's control groups offer.
type Controls struct {
	Memory, Swap, Swappiness, Reservation, OomKillDisable bool
	CPUShares, CPUCFS, CPURealtime, Cpuset, Pids          bool
	BlkioWeight, BlkioWeightDevice, BlkioThrottle         bool
}

// Build makes the specification. What the host cannot do but docker allows is told in the warnings; what is wrong is an
// errdefs.ErrInvalidArgument (fault).
func Build(in Input) (s *specs.Spec, warnings []string, err error) {
	b := builder{in: in, config: in.Config, host: in.HostConfig}
	if b.config == nil {
		b.config = &container.Config{}
	}
	if b.host == nil {
		b.host = &container.HostConfig{}
	}
	if err := b.build(); err != nil {
		return nil, b.warnings, err
	}
	return b.spec, b.warnings, nil
}

// builder holds what one Build works on.
type builder struct {
	in        Input
	config    *container.Config
	host      *container.HostConfig
	resources container.Resources // what is left of HostConfig.Resources on this host
	security  security
	spec      *specs.Spec
	warnings  []string
}

func (b *builder) warn(w string) { b.warnings = append(b.warnings, w) }

func (b *builder) build() error {
	if err := b.validate(); err != nil {
		return err
	}
	b.spec = &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: "rootfs", Readonly: b.host.ReadonlyRootfs},
		Annotations: cloneMap(b.host.Annotations),
		Linux:       &specs.Linux{CgroupsPath: b.cgroupsPath()},
	}
	// The order matters: seccomp's profile depends on the capabilities, sysctls on the namespaces.
	for _, step := range []func() error{
		b.process, b.capabilities, b.namespaces, b.sysctls, b.mounts, b.devices, b.limits, b.paths, b.labels, b.seccomp,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func cloneMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
