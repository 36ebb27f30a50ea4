package spec

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// allCapabilities in the order of their numbers.
var allCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
	"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

const capAll = "ALL"

// AllCapabilities names every capability of Linux in the order of their numbers.
func AllCapabilities() []string { return slices.Clone(allCapabilities) }

// normalizeCapabilities gives docker's spellings ("net_admin", "CAP_NET_ADMIN", "all") their one form.
func normalizeCapabilities(names []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, n := range names {
		c := strings.ToUpper(n)
		if c != capAll {
			if !strings.HasPrefix(c, "CAP_") {
				c = "CAP_" + c
			}
			if !slices.Contains(allCapabilities, c) {
				return nil, fmt.Errorf("unknown capability: %q", n)
			}
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

func (b *builder) capabilities() error {
	list, err := b.capabilityList()
	if err != nil {
		return err
	}
	b.spec.Process.Capabilities = newCapabilities(list)
	return nil
}

// newCapabilities leaves the inheritable and ambient sets empty: otherwise a program with inheritable file capabilities
// would gain what the process does not have (CVE-2022-24769).
func newCapabilities(list []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{
		Bounding:  list,
		Effective: slices.Clone(list),
		Permitted: slices.Clone(list),
	}
}

// capabilityNames is what to try in place of an unknown one.
const capabilityNames = "ALL, or a name of capabilities(7), as NET_ADMIN"

func (b *builder) capabilityList() ([]string, error) {
	add, err := normalizeCapabilities(b.host.CapAdd)
	if err != nil {
		return nil, tryInstead(capabilityNames, invalid("capability-unknown", "invalid CapAdd: %v", err))
	}
	drop, err := normalizeCapabilities(b.host.CapDrop)
	if err != nil {
		return nil, tryInstead(capabilityNames, invalid("capability-unknown", "invalid CapDrop: %v", err))
	}
	switch {
	case b.host.Privileged:
		return b.available(), nil
	case slices.Contains(add, capAll):
		return without(b.available(), drop), nil
	case slices.Contains(drop, capAll):
		return b.offered(add), nil
	}
	list := without(defaultCapabilities, drop)
	if len(b.in.Host.Capabilities) > 0 {
		list = slices.DeleteFunc(list, func(c string) bool { return !slices.Contains(b.in.Host.Capabilities, c) })
	}
	for _, c := range b.offered(add) {
		if !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return list, nil
}

// available are all capabilities that the host can give.
func (b *builder) available() []string {
	if len(b.in.Host.Capabilities) == 0 {
		return slices.Clone(allCapabilities)
	}
	return slices.Clone(b.in.Host.Capabilities)
}

// offered are those of list that the host can give; the others are warned of.
func (b *builder) offered(list []string) []string {
	out := make([]string, 0, len(list))
	for _, c := range list {
		if len(b.in.Host.Capabilities) > 0 && !slices.Contains(b.in.Host.Capabilities, c) {
			b.warn("Capability " + c + " cannot be given: this engine does not have it itself.")
			continue
		}
		out = append(out, c)
	}
	return out
}

func without(list, drop []string) []string {
	out := make([]string, 0, len(list))
	for _, c := range list {
		if !slices.Contains(drop, c) && !slices.Contains(drop, capAll) {
			out = append(out, c)
		}
	}
	return out
}
