package scope

import (
	"reflect"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// Objects finds what a request refers to. Each method returns an error for what does not belong to the project.
type Objects interface {
	Container(ref string) error
	Network(ref string) error
	// Volume makes the volume the project's if there is none of that name.
	Volume(name string) error
}

// Container holds a request to make a container against the scope, and marks it as the project's.
func (s *Scope) Container(r *container.CreateRequest, o Objects) error {
	if s.Project == "" {
		return nil
	}
	labels, err := s.Mark(r.Labels)
	if err != nil {
		return err
	}
	r.Labels = labels
	if err := s.host(r.HostConfig); err != nil {
		return err
	}
	if err := s.neighbours(r, o); err != nil {
		return err
	}
	return s.mounts(r.HostConfig, o)
}

// Update holds a change of a container against the scope.
func (s *Scope) Update(u container.UpdateConfig) error {
	if s.Project == "" {
		return nil
	}
	return s.resources(u.Resources)
}

// Exec holds a further process against the scope.
func (s *Scope) Exec(r container.ExecCreateRequest) error {
	if s.Project != "" && r.Privileged {
		return s.Refuse("a privileged exec")
	}
	return nil
}

// host takes away, from a copy, all settings that stay within the container or are looked at here; what is left reaches out.
func (s *Scope) host(given *container.HostConfig) error {
	h := *given
	for _, rule := range []struct {
		what  string
		value string
		fine  []string
	}{
		{"the log driver", h.LogConfig.Type, []string{"json-file", "local", "none"}},
		{"the volume driver", h.VolumeDriver, []string{"local"}},
		{"the host's cgroup namespace: it", string(h.CgroupnsMode), []string{"private"}},
		{"the runtime", h.Runtime, []string{"runc", "kist", "io.containerd.runc.v2"}},
		{"the isolation", string(h.Isolation), []string{"default"}},
	} {
		if rule.value != "" && !slices.Contains(rule.fine, rule.value) {
			return s.Refuse(rule.what + " " + rule.value)
		}
	}
	if err := s.privileges(&h); err != nil {
		return err
	}
	if err := s.resources(h.Resources); err != nil {
		return err
	}
	if h.MaskedPaths != nil || h.ReadonlyPaths != nil {
		return s.Refuse("changing which paths of the kernel are masked")
	}
	if h.OomScoreAdj < 0 {
		return s.Refuse("a negative OomScoreAdj")
	}
	for key := range h.Annotations {
		if strings.HasPrefix(key, "cdi.") {
			return s.Refuse("a device by the annotation " + key)
		}
	}
	// Looked at above or by neighbours and mounts, or without effect outside of the container.
	h.LogConfig, h.VolumeDriver, h.CgroupnsMode, h.Runtime, h.Isolation = container.LogConfig{}, "", "", "", ""
	h.Resources, h.OomScoreAdj, h.Annotations = container.Resources{}, 0, nil
	h.NetworkMode, h.IpcMode, h.PidMode, h.VolumesFrom, h.Links = "", "", "", nil, nil
	h.Binds, h.Mounts, h.Tmpfs = nil, nil, nil
	h.ContainerIDFile, h.PortBindings, h.PublishAllPorts, h.RestartPolicy, h.AutoRemove = "", nil, false, container.RestartPolicy{}, false
	h.ConsoleSize, h.DNS, h.DNSOptions, h.DNSSearch, h.ExtraHosts = [2]uint{}, nil, nil, nil, nil
	h.GroupAdd, h.ReadonlyRootfs, h.StorageOpt, h.ShmSize, h.Sysctls = nil, false, nil, 0, nil
	h.Umask, h.Init, h.CapDrop = nil, nil, nil
	return s.nothingLeft(reflect.ValueOf(h))
}

// privileges checks what a process may do, and takes away what is checked.
func (s *Scope) privileges(h *container.HostConfig) error {
	if h.Privileged {
		return s.Refuse("a privileged container")
	}
	for _, c := range h.CapAdd {
		if !slices.Contains(usual, strings.TrimPrefix(strings.ToUpper(c), "CAP_")) {
			return s.Refuse("the capability " + c)
		}
	}
	for _, o := range h.SecurityOpt {
		if !slices.Contains([]string{"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}, o) {
			return s.Refuse("the security option " + o)
		}
	}
	h.CapAdd, h.SecurityOpt = nil, nil
	return nil
}

// usual are the capabilities that containers have anyhow.
var usual = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID",
	"SETPCAP", "SETUID", "SYS_CHROOT",
}

// resources allows limits; devices and cgroups of others are refused.
func (s *Scope) resources(r container.Resources) error {
	if len(r.Devices)+len(r.DeviceRequests)+len(r.DeviceCgroupRules) > 0 {
		return s.Refuse("a device")
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		return s.Refuse("switching the OOM killer off")
	}
	r.Devices, r.DeviceRequests, r.DeviceCgroupRules, r.OomKillDisable = nil, nil, nil, nil
	r.CPUShares, r.Memory, r.NanoCPUs, r.BlkioWeight, r.CPUPeriod, r.CPUQuota = 0, 0, 0, 0, 0, 0
	r.CpusetCpus, r.CpusetMems, r.MemoryReservation, r.MemorySwap, r.MemorySwappiness = "", "", 0, 0, nil
	r.PidsLimit, r.Ulimits = nil, nil
	return s.nothingLeft(reflect.ValueOf(r))
}

// nothingLeft names the first setting that is not empty.
func (s *Scope) nothingLeft(v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() || f.Kind() == reflect.Slice && f.Len() == 0 || f.Kind() == reflect.Map && f.Len() == 0 {
			continue
		}
		return s.Refuse("the setting " + v.Type().Field(i).Name)
	}
	return nil
}
