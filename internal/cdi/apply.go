package cdi

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// Apply makes the edits of devices to a container's specification. The edits that all devices of a file share are made once.
func (c *Catalog) Apply(s *specs.Spec, names []string) error {
	var unknown []string
	for _, n := range names {
		if _, ok := c.devices[n]; !ok && !slices.Contains(unknown, n) {
			unknown = append(unknown, n)
		}
	}
	if len(unknown) > 0 {
		return c.missing(unknown)
	}
	shared, done := map[*file]bool{}, map[string]bool{}
	for _, n := range names {
		if done[n] {
			continue
		}
		done[n] = true
		d := c.devices[n]
		if !shared[d.file] {
			shared[d.file] = true
			if err := d.file.Edits.apply(s); err != nil {
				return d.failed(n, err)
			}
		}
		if err := d.device.Edits.apply(s); err != nil {
			return d.failed(n, err)
		}
	}
	return nil
}

func (d *found) failed(name string, err error) error {
	var class error = errdefs.ErrInvalidArgument
	if errdefs.IsNotImplemented(err) {
		class = errdefs.ErrNotImplemented
	}
	// Not wrapped: a device node that is not there would pass for a program that is missing.
	return &fault.Error{
		Code: "device-unusable", What: "cannot give the container the device " + name,
		Cause: fmt.Sprintf("its specification %s: %v", d.path, err), Class: class,
	}
}

func (e *edits) apply(s *specs.Spec) error {
	switch {
	case e.IntelRdt != nil:
		return fmt.Errorf("intelRdt (cache allocation) is not served: %w", errdefs.ErrNotImplemented)
	case len(e.NetDevices) > 0:
		return fmt.Errorf("netDevices (network interfaces) are not served: %w", errdefs.ErrNotImplemented)
	}
	if s.Process == nil {
		s.Process = &specs.Process{}
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	for _, v := range e.Env {
		s.Process.Env = setEnv(s.Process.Env, v)
	}
	for i := range e.DeviceNodes {
		if err := e.DeviceNodes[i].apply(s); err != nil {
			return err
		}
	}
	for i := range e.Mounts {
		e.Mounts[i].apply(s)
	}
	for i := range e.Hooks {
		e.Hooks[i].apply(s)
	}
	for _, g := range e.GIDs {
		if g != 0 && !slices.Contains(s.Process.User.AdditionalGids, g) {
			s.Process.User.AdditionalGids = append(s.Process.User.AdditionalGids, g)
		}
	}
	return nil
}

func setEnv(env []string, v string) []string {
	key, _, _ := strings.Cut(v, "=")
	for i, old := range env {
		if strings.HasPrefix(old, key+"=") {
			env = slices.Clone(env)
			env[i] = v
			return env
		}
	}
	return append(slices.Clip(env), v)
}

// apply adds the node. What the specification leaves out is as on the host.
func (d *deviceNode) apply(s *specs.Spec) error {
	node := specs.LinuxDevice{Path: d.Path, Type: d.Type, Major: d.Major, Minor: d.Minor, FileMode: d.FileMode, UID: d.UID, GID: d.GID}
	if err := d.complete(&node); err != nil {
		return err
	}
	if u := s.Process.User; node.UID == nil && u.UID > 0 {
		node.UID = &u.UID
	}
	if u := s.Process.User; node.GID == nil && u.GID > 0 {
		node.GID = &u.GID
	}
	s.Linux.Devices = slices.DeleteFunc(slices.Clone(s.Linux.Devices), func(o specs.LinuxDevice) bool { return o.Path == d.Path })
	s.Linux.Devices = append(s.Linux.Devices, node)
	if node.Type != "b" && node.Type != "c" {
		return nil
	}
	access := d.Permissions
	if access == "" {
		access = "rwm"
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	major, minor := node.Major, node.Minor
	s.Linux.Resources.Devices = append(slices.Clip(s.Linux.Resources.Devices), specs.LinuxDeviceCgroup{
		Allow: true, Type: node.Type, Major: &major, Minor: &minor, Access: access,
	})
	return nil
}

// complete asks the host for what is not known of the node.
func (d *deviceNode) complete(node *specs.LinuxDevice) error {
	if node.Type == "u" { // an unbuffered character device: the same
		node.Type = "c"
	}
	if node.Type != "" && (node.Major != 0 || node.Type == "p") {
		return nil
	}
	on := d.HostPath
	if on == "" {
		on = d.Path
	}
	var st unix.Stat_t
	if err := unix.Stat(on, &st); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("this host has no %s", on)
		}
		return fmt.Errorf("look at %s: %w", on, err)
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFIFO:
		kind = "p"
	default:
		return fmt.Errorf("%s is no device", on)
	}
	if node.Type != "" && node.Type != kind {
		return fmt.Errorf("%s has another type than %q on this host", on, node.Type)
	}
	node.Type, node.Major, node.Minor = kind, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	if node.FileMode == nil {
		mode := os.FileMode(st.Mode & 0o777)
		node.FileMode = &mode
	}
	return nil
}

func (m *mount) apply(s *specs.Spec) {
	one := specs.Mount{Source: m.HostPath, Destination: m.ContainerPath, Type: m.Type, Options: slices.Clone(m.Options)}
	binds := slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
	if binds || m.Type == "" {
		one.Type = "bind"
	}
	if one.Type == "bind" && !binds {
		one.Options = append(one.Options, "rbind")
	}
	s.Mounts = slices.DeleteFunc(slices.Clone(s.Mounts), func(o specs.Mount) bool { return o.Destination == m.ContainerPath })
	s.Mounts = append(s.Mounts, one)
}

func (h *hook) apply(s *specs.Spec) {
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	one := specs.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout}
	list := map[string]*[]specs.Hook{
		"prestart":      &s.Hooks.Prestart, //nolint:staticcheck // deprecated, but in use
		"createRuntime": &s.Hooks.CreateRuntime, "createContainer": &s.Hooks.CreateContainer,
		"startContainer": &s.Hooks.StartContainer, "poststart": &s.Hooks.Poststart, "poststop": &s.Hooks.Poststop,
	}[h.Name]
	*list = append(*list, one)
}
