package cli

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"
)

// surroundings are what flags may refer to.
type surroundings struct {
	// lookup reads a variable of this process.
	lookup func(string) (string, bool)
	// proxyEnv are variables that every container gets.
	proxyEnv []string
}

// request turns flags and arguments into the body of a create request. It reads the files that flags name and has no
// effects.
func (f *containerFlags) request(fs *pflag.FlagSet, args []string, s surroundings) (*container.CreateRequest, error) {
	if err := f.refuse(fs); err != nil {
		return nil, err
	}
	config, err := f.config(fs, args, s)
	if err != nil {
		return nil, err
	}
	host, err := f.hostConfig(fs)
	if err != nil {
		return nil, err
	}
	if host.Binds, config.Volumes, err = splitVolumes(f.volumes.values); err != nil {
		return nil, err
	}
	var ports network.PortSet
	if ports, host.PortBindings, err = publishPorts(f.publish.values, f.expose.values); err != nil {
		return nil, err
	}
	config.ExposedPorts = ports
	if f.rm && !host.RestartPolicy.IsNone() {
		return nil, errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	if f.endpoint.mac != "" {
		if _, err := net.ParseMAC(strings.TrimSpace(f.endpoint.mac)); err != nil {
			return nil, fmt.Errorf("%s is not a valid mac address", f.endpoint.mac)
		}
	}
	eps, err := endpoints(f.networks.values, &f.endpoint)
	if err != nil {
		return nil, err
	}
	return &container.CreateRequest{Config: config, HostConfig: host, NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: eps}}, nil
}

// refuse names flags that are not served.
func (f *containerFlags) refuse(fs *pflag.FlagSet) error {
	for _, name := range []string{"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"} {
		if fs.Changed(name) {
			return fmt.Errorf("--%s works with Windows containers only", name)
		}
	}
	switch {
	case fs.Changed("kernel-memory"):
		return errors.New("--kernel-memory is not served: the kernel no longer has that limit")
	case f.apiSocket:
		return errors.New("--use-api-socket is not served; mount the socket with -v")
	case !f.untrusted:
		return errors.New("--disable-content-trust=false is not served: signatures are not checked")
	}
	return nil
}

func (f *containerFlags) config(fs *pflag.FlagSet, args []string, s surroundings) (*container.Config, error) {
	env, err := environment(f.envFile.values, f.env.values, s.proxyEnv, s.lookup)
	if err != nil {
		return nil, err
	}
	labelList, err := labelLines(f.labelFile.values, f.labels.values)
	if err != nil {
		return nil, err
	}
	c := &container.Config{
		Hostname: f.hostname, Domainname: f.domainname, User: f.user, Tty: f.tty, OpenStdin: f.stdin, Env: env,
		Image: args[0], WorkingDir: f.workdir, Labels: mapOf(labelList), StopSignal: f.stopSignal,
		AttachStdin:  f.stdin || slices.Contains(f.attach.values, "stdin"),
		AttachStdout: len(f.attach.values) == 0 || slices.Contains(f.attach.values, "stdout"),
		AttachStderr: len(f.attach.values) == 0 || slices.Contains(f.attach.values, "stderr"),
	}
	if len(args) > 1 {
		c.Cmd = args[1:]
	}
	if fs.Changed("entrypoint") {
		// An empty one removes the image's.
		c.Entrypoint = []string{f.entrypoint}
	}
	if fs.Changed("stop-timeout") {
		c.StopTimeout = &f.stopTimeout
	}
	c.StdinOnce = c.OpenStdin && c.AttachStdin
	c.Healthcheck, err = f.health()
	return c, err
}

func (f *containerFlags) health() (*container.HealthConfig, error) {
	given := f.healthCmd != "" || f.healthInterval != 0 || f.healthTimeout != 0 || f.healthStartPeriod != 0 || f.healthRetries != 0 || f.healthStartIntv != 0
	switch {
	case f.noHealth && given:
		return nil, errors.New("--no-healthcheck conflicts with --health-* options")
	case f.noHealth:
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	case !given:
		return nil, nil
	case f.healthRetries < 0:
		return nil, errors.New("--health-retries cannot be negative")
	}
	err := errors.Join(positive("health-interval", f.healthInterval), positive("health-timeout", f.healthTimeout),
		positive("health-start-period", f.healthStartPeriod), positive("health-start-interval", f.healthStartIntv))
	h := &container.HealthConfig{
		Interval: f.healthInterval, Timeout: f.healthTimeout, StartPeriod: f.healthStartPeriod,
		StartInterval: f.healthStartIntv, Retries: f.healthRetries,
	}
	if f.healthCmd != "" {
		h.Test = []string{"CMD-SHELL", f.healthCmd}
	}
	return h, err
}

func (f *containerFlags) hostConfig(fs *pflag.FlagSet) (*container.HostConfig, error) {
	h := &container.HostConfig{
		ContainerIDFile: f.cidfile, AutoRemove: f.rm, Privileged: f.privileged, PublishAllPorts: f.publishAll,
		Links: f.endpoint.links.values, DNSOptions: orEmpty(f.dnsOption.values), DNSSearch: orEmpty(f.dnsSearch.values),
		ExtraHosts: f.extraHosts.values, VolumesFrom: f.volumesFrom.values, GroupAdd: f.groupAdd.values,
		IpcMode: container.IpcMode(f.ipc), ReadonlyRootfs: f.readOnly, Sysctls: f.sysctls.values, Runtime: f.runtime,
		VolumeDriver: f.volumeDriver, Isolation: container.Isolation(f.isolation), ShmSize: f.shm.n, Mounts: f.mounts.values,
		Umask: f.umask.value, OomScoreAdj: f.oomScore, Annotations: f.annotations.values, NetworkMode: "default",
	}
	h.CapAdd, h.CapDrop = capabilities(f.capAdd.values, f.capDrop.values)
	if len(f.networks.values) > 0 {
		h.NetworkMode = container.NetworkMode(f.networks.values[0].target)
	}
	if fs.Changed("init") {
		h.Init = &f.init
	}
	if len(f.tmpfs.values) > 0 {
		h.Tmpfs = map[string]string{}
		for _, t := range f.tmpfs.values {
			path, options, _ := strings.Cut(t, ":")
			h.Tmpfs[path] = options
		}
	}
	var err error
	if h.DNS, err = parseAddrs(f.dns.values); err != nil {
		return nil, err
	}
	if err := f.namespaces(h); err != nil {
		return nil, err
	}
	if h.RestartPolicy, err = restartPolicy(f.restart); err != nil {
		return nil, err
	}
	if h.LogConfig, err = f.logConfig(); err != nil {
		return nil, err
	}
	var open bool
	if h.SecurityOpt, open, err = securityOptions(f.securityOpt.values); err != nil {
		return nil, err
	}
	if len(h.SecurityOpt) == 0 {
		h.SecurityOpt = nil
	}
	if open {
		h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	}
	if len(f.storageOpt.values) > 0 {
		if h.StorageOpt, err = pairs(f.storageOpt.values, "storage option"); err != nil {
			return nil, err
		}
	}
	h.Resources, err = f.resources()
	return h, err
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (f *containerFlags) namespaces(h *container.HostConfig) error {
	h.PidMode, h.UTSMode = container.PidMode(f.pid), container.UTSMode(f.uts)
	h.UsernsMode, h.CgroupnsMode = container.UsernsMode(f.userns), container.CgroupnsMode(f.cgroupns)
	switch {
	case !h.PidMode.Valid():
		return errors.New("--pid: invalid PID mode")
	case !h.UTSMode.Valid():
		return errors.New("--uts: invalid UTS mode")
	case !h.UsernsMode.Valid():
		return errors.New("--userns: invalid USER mode")
	case !h.CgroupnsMode.Valid():
		return errors.New("--cgroupns: invalid CGROUP mode")
	}
	return nil
}

func restartPolicy(s string) (container.RestartPolicy, error) {
	if s == "" {
		return container.RestartPolicy{}, nil
	}
	name, count, ok := strings.Cut(s, ":")
	p := container.RestartPolicy{Name: container.RestartPolicyMode(name)}
	if name == "" {
		return p, errors.New("invalid restart policy format: no policy provided before colon")
	}
	if ok && count != "" {
		n, err := strconv.Atoi(count)
		if err != nil {
			return p, errors.New("invalid restart policy format: maximum retry count must be an integer")
		}
		p.MaximumRetryCount = n
	}
	return p, nil
}

func (f *containerFlags) logConfig() (container.LogConfig, error) {
	opts := mapOf(f.logOpt.values)
	if f.logDriver == "none" && len(opts) > 0 {
		return container.LogConfig{}, errors.New("invalid logging opts for driver none")
	}
	return container.LogConfig{Type: f.logDriver, Config: opts}, nil
}

func (f *containerFlags) resources() (container.Resources, error) {
	r := container.Resources{
		CgroupParent: f.cgroupParent, Memory: f.memory.n, MemoryReservation: f.reservation.n, MemorySwap: f.swap.n,
		NanoCPUs: int64(f.cpus), CPUPeriod: f.cpuPeriod, CPUQuota: f.cpuQuota, CPURealtimePeriod: f.cpuRTPeriod,
		CPURealtimeRuntime: f.cpuRTRuntime, CPUShares: f.cpuShares, CpusetCpus: f.cpusetCpus, CpusetMems: f.cpusetMems,
		BlkioWeight: f.blkioWeight, BlkioWeightDevice: f.weights.values, BlkioDeviceReadBps: f.readBps.values,
		BlkioDeviceWriteBps: f.writeBps.values, BlkioDeviceReadIOps: f.readIOps.values, BlkioDeviceWriteIOps: f.writeIOps.values,
		DeviceCgroupRules: f.deviceRules.values, Ulimits: f.ulimits.list(), DeviceRequests: f.gpus.values,
		OomKillDisable: &f.oomKillDisable, PidsLimit: &f.pidsLimit, MemorySwappiness: &f.swappiness,
	}
	if f.swappiness != -1 && (f.swappiness < 0 || f.swappiness > 100) {
		return r, fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", f.swappiness)
	}
	var cdi []string
	var err error
	if r.Devices, cdi, err = splitDevices(f.devices.values); err != nil {
		return r, err
	}
	if len(cdi) > 0 {
		r.DeviceRequests = append(r.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: cdi})
	}
	return r, nil
}
