package spec

import (
	"slices"
	"strconv"
	"strings"
)

// security is HostConfig.SecurityOpt, understood.
type security struct {
	noNewPrivileges bool
	unconfinedPaths bool
	writableCgroups bool
	cgroupsReadonly bool // writable-cgroups=false was said
	apparmor        string
	seccomp         string
	labels          []string
}

const unconfined = "unconfined"

func parseSecurity(opts []string) (security, error) {
	var s security
	for _, opt := range opts {
		switch opt {
		case "no-new-privileges":
			s.noNewPrivileges = true
			continue
		case "disable":
			s.labels = append(s.labels, opt)
			continue
		case "writable-cgroups":
			s.writableCgroups, s.cgroupsReadonly = true, false
			continue
		}
		key, value, ok := strings.Cut(opt, "=")
		if !ok {
			key, value, ok = strings.Cut(opt, ":")
		}
		if !ok {
			return s, invalid("security-opt", "invalid --security-opt 1: %q", opt)
		}
		if err := s.set(opt, key, value); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *security) set(opt, key, value string) error {
	bad := invalid("security-opt", "invalid --security-opt 2: %q", opt)
	switch key {
	case "label":
		s.labels = append(s.labels, value)
	case "apparmor":
		s.apparmor = value
	case "seccomp":
		s.seccomp = value
	case "systempaths":
		if value != unconfined {
			return bad
		}
		s.unconfinedPaths = true
	case "no-new-privileges":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return bad
		}
		s.noNewPrivileges = on
	case "writable-cgroups":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return bad
		}
		s.writableCgroups, s.cgroupsReadonly = on, !on
	default:
		return bad
	}
	return nil
}

// defaultAppArmor is the profile that docker loads and every container gets.
const defaultAppArmor = "docker-default"

func (b *builder) labels() error {
	if b.in.Host.AppArmor {
		b.spec.Process.ApparmorProfile = b.apparmor()
	} else if a := b.security.apparmor; a != "" && a != unconfined && a != defaultAppArmor {
		return invalid("apparmor-missing", "cannot use AppArmor profile %q: this kernel has no AppArmor", a)
	}
	return b.selinux()
}

func (b *builder) apparmor() string {
	switch {
	case b.security.apparmor != "":
		return b.security.apparmor
	case b.host.Privileged:
		return unconfined
	case slices.Contains(b.in.Host.AppArmorProfiles, defaultAppArmor):
		return defaultAppArmor
	}
	return ""
}

// selinux makes the process label of the standard policy. Without SELinux, label options are accepted and do nothing, as
// docker's.
func (b *builder) selinux() error {
	label := map[string]string{"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
	disabled := b.host.Privileged
	for _, l := range b.security.labels {
		if l == "disable" {
			disabled = true
			continue
		}
		key, value, ok := strings.Cut(l, ":")
		switch key {
		case "user", "role", "type", "level", "filetype", "nested":
		default:
			ok = key == "nested"
		}
		if !ok {
			return invalid("security-opt", "bad label option %q, valid options 'disable' or "+
				"'user, role, level, type, filetype' followed by ':' and a value", l)
		}
		label[key] = value
	}
	if !b.in.Host.SELinux || disabled {
		return nil
	}
	file := "container_file_t"
	if t := label["filetype"]; t != "" {
		file = t
	}
	b.spec.Process.SelinuxLabel = strings.Join([]string{label["user"], label["role"], label["type"], label["level"]}, ":")
	b.spec.Linux.MountLabel = strings.Join([]string{label["user"], "object_r", file, label["level"]}, ":")
	return nil
}
