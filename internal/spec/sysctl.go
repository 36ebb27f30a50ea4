package spec

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ipcSysctls belong to the ipc namespace; all of fs.mqueue.* does as well.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
	"kernel.shm_rmid_forced", "kernel.msg_next_id", "kernel.sem_next_id", "kernel.shm_next_id",
}

func (b *builder) sysctls() error {
	list := b.spec.Linux.Namespaces
	out := make(map[string]string, len(b.host.Sysctls)+2)
	if own(list, specs.NetworkNamespace) && !b.host.NetworkMode.IsContainer() && !b.in.Wired {
		// Docker's: ping without CAP_NET_RAW, and ports below 1024 without CAP_NET_BIND_SERVICE.
		if slices.Contains(b.in.Host.Sysctls, SysctlPing) && !b.in.Host.Rootless && !own(list, specs.UserNamespace) {
			out[SysctlPing] = "0 2147483647"
		}
		if slices.Contains(b.in.Host.Sysctls, SysctlPortStart) {
			out[SysctlPortStart] = "0"
		}
	}
	for k, v := range b.host.Sysctls {
		key := dotted(k)
		if err := b.checkSysctl(key); err != nil {
			return err
		}
		if strings.Contains(key, "/") {
			key = swapped(key) // unmistakable only as the path it is
		}
		out[key] = v
	}
	if len(out) > 0 {
		b.spec.Linux.Sysctl = out
	}
	return nil
}

// The sysctls that containers get by themselves, if the kernel has them.
const (
	SysctlPing      = "net.ipv4.ping_group_range"
	SysctlPortStart = "net.ipv4.ip_unprivileged_port_start"
)

// dotted gives "net/ipv4/conf/eth0.1/forwarding" and "net.ipv4..." one form: whichever separator comes first is the one
// that separates, and the other one stands for itself.
func dotted(key string) string {
	first := strings.IndexAny(key, "./")
	if first < 0 || key[first] == '.' {
		return key
	}
	return swapped(key)
}

func swapped(key string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		}
		return r
	}, key)
}

// checkSysctl refuses what would change the host or another container, in docker's words.
func (b *builder) checkSysctl(key string) error {
	list := b.spec.Linux.Namespaces
	if !validSysctl(key) {
		return invalid("sysctl-invalid", "sysctl '%s' is not a valid name", key)
	}
	var kind specs.LinuxNamespaceType
	switch {
	case slices.Contains(ipcSysctls, key) || strings.HasPrefix(key, "fs.mqueue."):
		kind = specs.IPCNamespace
	case strings.HasPrefix(key, "net."):
		kind = specs.NetworkNamespace
	case key == "kernel.domainname" || key == "kernel.hostname":
		kind = specs.UTSNamespace
	default:
		return invalid("sysctl-unsafe", "sysctl '%s' is not in a separate kernel namespace, and so cannot be set for one container", key)
	}
	if own(list, kind) {
		return nil
	}
	switch kind {
	case specs.NetworkNamespace:
		if b.host.NetworkMode.IsHost() {
			return invalid("sysctl-host", "sysctl '%s' not allowed in host network namespace", key)
		}
	case specs.IPCNamespace:
		if b.host.IpcMode.IsHost() {
			return invalid("sysctl-host", "sysctl '%s' not allowed in host ipc namespace", key)
		}
	}
	return invalid("sysctl-host", "sysctl '%s' not allowed: the container shares its %s namespace", key, kind)
}

// validSysctl keeps a name from leading out of /proc/sys: no part of it may be empty or, once it is a path, ".." or ".".
func validSysctl(key string) bool {
	for part := range strings.SplitSeq(key, ".") {
		if strings.Trim(part, "/") == "" || strings.ContainsRune(part, 0) {
			return false
		}
	}
	return true
}
