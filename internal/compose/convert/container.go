package convert

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/compose/model"
)

// Input is a service and what else a container of it depends on.
type Input struct {
	Project *types.Project
	// Service refers to containers where the file refers to services (Resolve).
	Service types.ServiceConfig
	// Number is the container's, from 1; 0 for one that is made for one command.
	Number int
	// Labels are added to the service's.
	Labels types.Labels
	// Alone leaves out the names that others reach the service by.
	Alone bool
	// Beside is for a container that runs beside the one whose place it is to take: it has neither names nor fixed ports of the
	// host until it gets that one's.
	Beside bool
	// AttachStdin and AutoRemove are those of a container for one command.
	AttachStdin, AutoRemove bool
	// Links are those to containers: NAME:ALIAS.
	Links []string
	// Kept are the mounts of the container whose place this one takes, ImageVolumes the paths that the image has volumes at.
	Kept         []container.MountPoint
	ImageVolumes map[string]struct{}
	// Proxies are variables that every container gets unless it has its own.
	Proxies []string
	// ReadFile reads a file that the service names.
	ReadFile func(path string) ([]byte, error)
}

// Container makes the request.
func Container(in *Input) (*container.CreateRequest, error) {
	s := &in.Service
	if err := refused(s); err != nil {
		return nil, err
	}
	exposed, published, err := ports(s)
	if err != nil {
		return nil, err
	}
	config := &container.Config{
		Hostname: s.Hostname, Domainname: s.DomainName, User: s.User, ExposedPorts: exposed, Tty: s.Tty, OpenStdin: s.StdinOpen,
		StdinOnce: in.AttachStdin && s.StdinOpen, AttachStdin: in.AttachStdin, AttachStdout: true, AttachStderr: true,
		Env: environment(s.Environment, in.Proxies), Cmd: s.Command, Entrypoint: s.Entrypoint, Image: model.ImageName(in.Project.Name, s),
		WorkingDir: s.WorkingDir, Labels: labels(s, in), StopSignal: s.StopSignal, StopTimeout: seconds(s.StopGracePeriod),
		Healthcheck: healthcheck(s.HealthCheck),
	}
	host, err := hostConfig(in)
	if err != nil {
		return nil, err
	}
	host.PortBindings = published
	if in.Beside {
		host.PortBindings, _ = Fixed(published)
	}
	mode, networks, err := networking(in)
	if err != nil {
		return nil, err
	}
	host.NetworkMode = mode
	if mode.IsHost() || mode.IsContainer() {
		config.ExposedPorts = nil
	}
	if mode.IsContainer() {
		host.PortBindings, config.Hostname = nil, ""
	}
	return &container.CreateRequest{Config: config, HostConfig: host, NetworkingConfig: networks}, nil
}

// refused are keys that ask for what no container is.
func refused(s *types.ServiceConfig) error {
	not := func(key string) error {
		return fmt.Errorf("service %s: %s is not served: %w", s.Name, key, errdefs.ErrNotImplemented)
	}
	switch {
	case s.Provider != nil:
		return not("provider")
	case len(s.Models) > 0:
		return not("models")
	case s.CredentialSpec != nil:
		return not("credential_spec")
	case s.UseAPISocket:
		return not("use_api_socket")
	}
	return nil
}

func labels(s *types.ServiceConfig, in *Input) map[string]string {
	l := map[string]string{}
	maps.Copy(l, s.Labels)
	maps.Copy(l, s.CustomLabels)
	maps.Copy(l, in.Labels)
	l[model.LabelDependsOn] = model.WriteDependsOn(s.DependsOn)
	if in.Number > 0 {
		l[model.LabelNumber] = strconv.Itoa(in.Number)
	}
	return l
}

// environment lists variables, sorted. One without a value is taken out of what the image sets.
func environment(m types.MappingWithEquals, proxies []string) []string {
	all := map[string]string{}
	for _, p := range proxies {
		name, _, _ := strings.Cut(p, "=")
		all[name] = p
	}
	for name, value := range m {
		all[name] = name
		if value != nil {
			all[name] = name + "=" + *value
		}
	}
	var env []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, all[name])
	}
	return env
}

// seconds rounds up: half a second of patience is not none.
func seconds(d *types.Duration) *int {
	if d == nil {
		return nil
	}
	n := int(math.Ceil(time.Duration(*d).Seconds()))
	return &n
}

func healthcheck(h *types.HealthCheckConfig) *container.HealthConfig {
	if h == nil {
		return nil
	}
	c := &container.HealthConfig{Test: h.Test}
	if h.Disable {
		c.Test = []string{"NONE"}
	}
	for to, from := range map[*time.Duration]*types.Duration{
		&c.Interval: h.Interval, &c.Timeout: h.Timeout, &c.StartPeriod: h.StartPeriod, &c.StartInterval: h.StartInterval,
	} {
		if from != nil {
			*to = time.Duration(*from)
		}
	}
	if h.Retries != nil {
		c.Retries = int(min(*h.Retries, math.MaxInt32))
	}
	return c
}

// hostConfig is everything but ports and networks.
func hostConfig(in *Input) (*container.HostConfig, error) {
	s := &in.Service
	security, err := securityOptions(in)
	if err != nil {
		return nil, err
	}
	servers, err := nameServers(s.DNS)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Name, err)
	}
	binds, mounts, err := volumes(in)
	if err != nil {
		return nil, err
	}
	tmpfs := map[string]string{}
	for _, t := range s.Tmpfs {
		path, options, _ := strings.Cut(t, ":")
		tmpfs[path] = options
	}
	h := &container.HostConfig{
		AutoRemove: in.AutoRemove, Annotations: s.Annotations, Binds: binds, Mounts: mounts, CapAdd: s.CapAdd, CapDrop: s.CapDrop,
		Init: s.Init, IpcMode: container.IpcMode(s.Ipc), CgroupnsMode: container.CgroupnsMode(s.Cgroup), ReadonlyRootfs: s.ReadOnly,
		RestartPolicy: restartPolicy(s), ShmSize: int64(s.ShmSize), Sysctls: s.Sysctls, Resources: resources(s), VolumeDriver: s.VolumeDriver,
		VolumesFrom: s.VolumesFrom, DNS: servers, DNSSearch: s.DNSSearch, DNSOptions: s.DNSOpts, ExtraHosts: s.ExtraHosts.AsList(":"),
		SecurityOpt: security, StorageOpt: s.StorageOpt, UsernsMode: container.UsernsMode(s.UserNSMode), UTSMode: container.UTSMode(s.Uts),
		Privileged: s.Privileged, PidMode: container.PidMode(s.Pid), Tmpfs: tmpfs, Isolation: container.Isolation(s.Isolation),
		Runtime: s.Runtime, GroupAdd: s.GroupAdd, Links: in.Links, OomScoreAdj: int(s.OomScoreAdj), Umask: s.Umask,
	}
	slices.Sort(h.ExtraHosts)
	if s.Logging != nil {
		h.LogConfig = container.LogConfig{Type: s.Logging.Driver, Config: s.Logging.Options}
	}
	if slices.Contains(s.SecurityOpt, unconfinedPaths) {
		h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	}
	return h, nil
}

func nameServers(list []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, d := range list {
		a, err := netip.ParseAddr(d)
		if err != nil {
			return nil, fmt.Errorf("dns %q is not an address: %w", d, errdefs.ErrInvalidArgument)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// restartPolicy prefers deploy's.
func restartPolicy(s *types.ServiceConfig) container.RestartPolicy {
	name, count, _ := strings.Cut(s.Restart, ":")
	tries, _ := strconv.Atoi(count) // The schema has seen to it.
	if s.Deploy != nil && s.Deploy.RestartPolicy != nil {
		name, tries = s.Deploy.RestartPolicy.Condition, 0
		if n := s.Deploy.RestartPolicy.MaxAttempts; n != nil {
			tries = int(min(*n, math.MaxInt32))
		}
		if name == "" {
			name = "any"
		}
	}
	switch name {
	case "none", "no":
		name = "no"
	case "any", "always":
		name = "always"
	}
	return container.RestartPolicy{Name: container.RestartPolicyMode(name), MaximumRetryCount: tries}
}
