package spec

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// namespaces lists the namespaces to make or to join. One that is left out is the host's.
func (b *builder) namespaces() error {
	wants := []struct {
		kind specs.LinuxNamespaceType
		mode string
	}{
		{specs.MountNamespace, ""},
		{specs.NetworkNamespace, b.networkMode()},
		{specs.UTSNamespace, string(b.host.UTSMode)},
		{specs.PIDNamespace, string(b.host.PidMode)},
		{specs.IPCNamespace, string(b.host.IpcMode)},
		{specs.CgroupNamespace, b.cgroupnsMode()},
	}
	list := make([]specs.LinuxNamespace, 0, len(wants)+1)
	for _, w := range wants {
		path, join := b.in.Join[w.kind]
		switch {
		case join && path == "" || !join && w.mode == "host":
			continue
		case !join && strings.HasPrefix(w.mode, "container:"):
			return invalid("namespace-missing", "cannot join the %s namespace of %s: it was not found", w.kind, w.mode)
		}
		list = append(list, specs.LinuxNamespace{Type: w.kind, Path: path})
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.UserNamespace, specs.TimeNamespace} {
		if path := b.in.Join[kind]; path != "" {
			list = append(list, specs.LinuxNamespace{Type: kind, Path: path})
		}
	}
	b.spec.Linux.Namespaces = list
	if own(list, specs.UTSNamespace) {
		b.spec.Hostname = b.hostname()
		b.spec.Domainname = b.config.Domainname
	}
	return nil
}

// networkMode is "host", "container:..." or something that means a namespace of the container's own.
func (b *builder) networkMode() string {
	if b.config.NetworkDisabled {
		return "none"
	}
	return string(b.host.NetworkMode)
}

// cgroupnsMode: docker hides the host's hierarchy on version 2 only.
func (b *builder) cgroupnsMode() string {
	if m := b.host.CgroupnsMode; !m.IsEmpty() {
		return string(m)
	}
	return string(defaultCgroupnsMode(b.in.Host))
}

// own tells whether a namespace of this kind is new, and so may be changed without changing another container's.
func own(list []specs.LinuxNamespace, kind specs.LinuxNamespaceType) bool {
	for _, n := range list {
		if n.Type == kind {
			return n.Path == ""
		}
	}
	return false
}

// cgroupsPath is what the cgroup package takes: a path, or "slice:prefix:name" with the systemd driver.
func (b *builder) cgroupsPath() string {
	parent := b.host.CgroupParent
	if parent == "" {
		parent = b.in.CgroupParent
	}
	if b.in.Host.SystemdCgroup {
		if parent == "" {
			parent = "system.slice"
			if b.in.Host.Rootless {
				parent = "user.slice"
			}
		}
		return parent + ":kist:" + b.in.ID
	}
	if parent == "" {
		parent = "/kist"
	}
	return cleanCgroup(parent) + "/" + b.in.ID
}
