package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
)

// Validate refuses what Build would refuse that needs no more than the request and the host, so that a container is not
// created that can never start. The warnings are those that docker gives at creation.
func Validate(c *container.Config, hc *container.HostConfig, h Host) (warnings []string, err error) {
	if c == nil {
		c = &container.Config{}
	}
	if hc == nil {
		hc = &container.HostConfig{}
	}
	b := builder{in: Input{Host: h, Config: c, HostConfig: hc}, config: c, host: hc}
	if err := b.validate(); err != nil {
		return b.warnings, err
	}
	for _, check := range []func() error{
		func() error { _, err := b.capabilityList(); return err },
		func() error { _, err := tmpfsMounts(hc.Tmpfs); return err },
		b.validateDeviceRules,
		b.validateHostname,
	} {
		if err := check(); err != nil {
			return b.warnings, err
		}
	}
	return b.warnings, nil
}

// validateHostname is for creation only: later the machine may have got another name.
func (b *builder) validateHostname() error {
	if n := b.config.Hostname; b.host.UTSMode.IsHost() && n != "" && n != b.in.Host.Hostname {
		return invalid("conflict-hostname", "conflicting options: hostname and the UTS mode")
	}
	return nil
}

func (b *builder) validateDeviceRules() error {
	for _, text := range b.resources.DeviceCgroupRules {
		if _, err := parseDeviceRule(text); err != nil {
			return err
		}
	}
	return nil
}

// validate understands the options and checks them, in docker's words, and leaves in b.resources those that this host
// can enforce.
func (b *builder) validate() error {
	var err error
	if b.security, err = parseSecurity(b.host.SecurityOpt); err != nil {
		return err
	}
	if b.resources, err = b.checkResources(b.host.Resources, false); err != nil {
		return err
	}
	for _, check := range []func() error{b.checkRuntime, b.checkModes, b.checkRest} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) checkRuntime() error {
	switch r := b.host.Runtime; r {
	case "", "kist", "runc", "io.containerd.runc.v2":
		return nil
	default:
		return tryInstead("leave --runtime out: kist runs containers itself", invalid("runtime-unknown", "unknown or invalid runtime name: %s", r))
	}
}

func (b *builder) checkModes() error {
	hc := b.host
	switch {
	case !hc.IpcMode.Valid():
		return invalid("ipc-mode", "invalid IPC mode: %v", hc.IpcMode)
	case !hc.PidMode.Valid():
		return invalid("pid-mode", "invalid PID mode: %v", hc.PidMode)
	case !hc.UTSMode.Valid():
		return invalid("uts-mode", "invalid UTS mode: %v", hc.UTSMode)
	case !hc.CgroupnsMode.Valid():
		return invalid("cgroupns-mode", "invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	case !hc.UsernsMode.Valid():
		return invalid("userns-mode", "invalid user namespace mode: %v", hc.UsernsMode)
	case hc.Cgroup != "":
		return unserved("cgroup-of-container", "kist does not serve the cgroup of another container (Cgroup %q)", hc.Cgroup)
	case !hc.Isolation.IsDefault():
		return invalid("isolation", "invalid isolation '%s' on linux", hc.Isolation)
	}
	return nil
}

// maxHostname is the kernel's limit (HOST_NAME_MAX).
const maxHostname = 64

func (b *builder) checkRest() error {
	hc := b.host
	if hc.ShmSize < 0 {
		return invalid("shm-size", "SHM size can not be less than 0")
	}
	if hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000 {
		return invalid("oom-score-adj", "Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	}
	if hc.Umask != nil && *hc.Umask > 0o777 {
		return invalid("umask", "invalid umask %#o: range is 0 to 0777", *hc.Umask)
	}
	if hc.NetworkMode.IsHost() && len(hc.PortBindings) > 0 {
		b.warn("Published ports are discarded when using host network mode")
	}
	for dest := range hc.Tmpfs {
		if err := checkTmpfsDestination(dest); err != nil {
			return err
		}
	}
	if dir := b.config.WorkingDir; dir != "" && !path.IsAbs(dir) {
		return invalid("workdir", "the working directory '%s' is invalid, it needs to be an absolute path", dir)
	}
	for _, name := range []string{b.config.Hostname, b.config.Domainname} {
		if len(name) > maxHostname || strings.ContainsRune(name, 0) {
			return invalid("hostname", "invalid hostname format: %s", name)
		}
	}
	for _, arg := range slices.Concat(b.config.Entrypoint, b.config.Cmd) {
		if strings.ContainsRune(arg, 0) {
			return invalid("command", "invalid command: %q holds a NUL byte", arg)
		}
	}
	for _, kv := range b.config.Env {
		if kv == "" || kv[0] == '=' || strings.ContainsRune(kv, 0) {
			return invalid("env", "invalid environment variable: %s", kv)
		}
	}
	return b.checkUlimits()
}

func (b *builder) checkUlimits() error {
	for _, u := range b.resources.Ulimits {
		if u == nil {
			return invalid("ulimit", "invalid ulimit: it is null")
		}
		if _, err := (&units.Ulimit{Name: u.Name, Soft: -1, Hard: -1}).GetRlimit(); err != nil {
			return invalid("ulimit", "invalid ulimit type: %s", u.Name)
		}
		if u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1) {
			return invalid("ulimit", "ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		name := "RLIMIT_" + strings.ToUpper(u.Name)
		if most, ok := b.in.Host.RlimitHard[name]; ok && uint64(u.Hard) > most {
			b.warn(fmt.Sprintf("Ulimit %s: this engine may not raise it above %d; it gets that.", u.Name, most))
		}
	}
	parent := b.host.CgroupParent
	if parent != "" && b.in.Host.SystemdCgroup && (len(parent) <= 6 || !strings.HasSuffix(parent, ".slice")) {
		return invalid("cgroup-parent", "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"")
	}
	return nil
}

// cleanCgroup makes parent absolute and keeps it below the root of the hierarchy.
func cleanCgroup(parent string) string {
	p := path.Clean("/" + parent)
	if p == "/" {
		return ""
	}
	return p
}
