package spec

import (
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// defaultDeviceRules forbid all devices but the standard ones: zero, null, urandom, random, tty and console.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rules := make([]specs.LinuxDeviceCgroup, 0, 8)
	rules = append(rules, specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"})
	for _, n := range [][2]int64{{1, 5}, {1, 3}, {1, 9}, {1, 8}, {5, 0}, {5, 1}} {
		rules = append(rules, charRule(true, n[0], n[1]))
	}
	return append(rules, charRule(false, 10, 229)) // fuse
}

func charRule(allow bool, major, minor int64) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: &major, Minor: &minor, Access: "rwm"}
}

func (b *builder) devices() error {
	var devices []specs.LinuxDevice
	var rules []specs.LinuxDeviceCgroup
	if b.host.Privileged {
		devices = slices.Concat(b.in.Host.Devices, b.in.Devices)
		rules = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		devices = slices.Clone(b.in.Devices)
		rules = append(defaultDeviceRules(), b.in.DeviceRules...)
		for _, text := range b.resources.DeviceCgroupRules {
			r, err := parseDeviceRule(text)
			if err != nil {
				return err
			}
			rules = append(rules, r)
		}
	}
	for i := range devices {
		d := &devices[i]
		d.FileMode, d.UID, d.GID = clonePointer(d.FileMode), clonePointer(d.UID), clonePointer(d.GID)
	}
	for i := range rules {
		r := &rules[i]
		r.Major, r.Minor = clonePointer(r.Major), clonePointer(r.Minor)
	}
	b.spec.Linux.Devices = uniqueDevices(devices)
	b.spec.Linux.Resources = &specs.LinuxResources{Devices: rules}
	return nil
}

// uniqueDevices keeps the last of those with the same path: what the user asked for goes before what privileged brings.
func uniqueDevices(list []specs.LinuxDevice) []specs.LinuxDevice {
	at := make(map[string]int, len(list))
	out := list[:0]
	for _, d := range list {
		if i, ok := at[d.Path]; ok {
			out[i] = d
			continue
		}
		at[d.Path] = len(out)
		out = append(out, d)
	}
	return out
}

// parseDeviceRule parses docker's --device-cgroup-rule: "c 1:3 rwm", "a *:* rwm".
func parseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	bad := invalid("device-rule", "invalid device cgroup rule format: '%s'", text)
	var r specs.LinuxDeviceCgroup
	kind, rest, ok := strings.Cut(text, " ")
	numbers, access, ok2 := strings.Cut(rest, " ")
	major, minor, ok3 := strings.Cut(numbers, ":")
	if !ok || !ok2 || !ok3 || !strings.Contains("acb", kind) || len(kind) != 1 {
		return r, bad
	}
	if access == "" || len(access) > 3 || strings.Trim(access, "rwm") != "" {
		return r, bad
	}
	r = specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
	var err error
	if r.Major, err = deviceNumber(major); err != nil {
		return r, invalid("device-rule", "invalid major value in device cgroup rule format: '%s'", text)
	}
	if r.Minor, err = deviceNumber(minor); err != nil {
		return r, invalid("device-rule", "invalid minor value in device cgroup rule format: '%s'", text)
	}
	return r, nil
}

func deviceNumber(s string) (*int64, error) {
	if s == "*" {
		n := int64(-1)
		return &n, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return nil, err
	}
	v := int64(n)
	return &v, nil
}
