package runtime

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

// namespaces are those of a specification: the flags of the new ones and the paths of those to join.
type namespaces struct {
	fresh uint64
	join  map[uint64]string
}

var namespaceFlags = map[specs.LinuxNamespaceType]uint64{
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET, specs.MountNamespace: unix.CLONE_NEWNS,
	specs.IPCNamespace: unix.CLONE_NEWIPC, specs.UTSNamespace: unix.CLONE_NEWUTS, specs.UserNamespace: unix.CLONE_NEWUSER,
	specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
}

func readNamespaces(s *specs.Spec) (namespaces, error) {
	n := namespaces{join: map[uint64]string{}}
	for _, ns := range s.Linux.Namespaces {
		flag, ok := namespaceFlags[ns.Type]
		if !ok {
			return n, fmt.Errorf("namespace of type %q: %w", ns.Type, errdefs.ErrInvalidArgument)
		}
		if n.fresh&flag != 0 || n.join[flag] != "" {
			return n, fmt.Errorf("two namespaces of type %q: %w", ns.Type, errdefs.ErrInvalidArgument)
		}
		if ns.Path == "" {
			n.fresh |= flag
		} else {
			n.join[flag] = ns.Path
		}
	}
	if n.fresh&unix.CLONE_NEWNS == 0 {
		return n, fmt.Errorf("a container without a mount namespace of its own: %w", errdefs.ErrNotImplemented)
	}
	if n.join[unix.CLONE_NEWUSER] != "" {
		return n, fmt.Errorf("a container in the user namespace of another: %w", errdefs.ErrNotImplemented)
	}
	mapped := len(s.Linux.UIDMappings) + len(s.Linux.GIDMappings)
	if mapped > 0 && !n.has(unix.CLONE_NEWUSER) {
		return n, fmt.Errorf("id mappings without a user namespace: %w", errdefs.ErrInvalidArgument)
	}
	if len(s.Linux.TimeOffsets) > 0 && n.fresh&unix.CLONE_NEWTIME == 0 {
		return n, fmt.Errorf("time offsets without a new time namespace: %w", errdefs.ErrInvalidArgument)
	}
	return n, nil
}

func (n *namespaces) has(flags uint64) bool {
	for f := range n.join {
		if f&flags != 0 {
			return true
		}
	}
	return n.fresh&flags != 0
}

// user says that the container has a user namespace: its first process has no power over the host.
func (n *namespaces) user() bool { return n.has(unix.CLONE_NEWUSER) }

// joinCgroups puts the child into its control groups before a cgroup namespace takes them for its root.
func (c *compiler) joinCgroups() error {
	if c.in.v2 != "" {
		c.cgroup = c.opened()
		c.h.call(unix.SYS_OPENAT, imm(unix.AT_FDCWD), c.str(c.in.v2).arg(),
			imm(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)).into(c.cgroup).at("open cgroup", c.in.v2)
	}
	self := c.str("0")
	for _, f := range c.in.tasks {
		t := c.opened()
		c.h.call(unix.SYS_OPENAT, imm(unix.AT_FDCWD), c.str(f).arg(), imm(unix.O_WRONLY|unix.O_CLOEXEC)).
			into(t).at("open cgroup", f)
		c.c.call(unix.SYS_WRITE, t.arg(), self.arg(), imm(1)).at("join cgroup", f)
	}
	return nil
}

// userNamespace waits until the parent has written the mappings and time offsets, and becomes the namespace's root.
func (c *compiler) userNamespace() error {
	if c.ns.fresh&unix.CLONE_NEWTIME != 0 {
		// Its clocks become this process's by execve, and can be set until then.
		c.c.call(unix.SYS_UNSHARE, imm(unix.CLONE_NEWTIME)).at("unshare", "time namespace")
	}
	c.uidMaps, c.gidMaps = c.spec.Linux.UIDMappings, c.spec.Linux.GIDMappings
	if c.ns.fresh&(unix.CLONE_NEWUSER|unix.CLONE_NEWTIME) != 0 {
		c.ask(assist{kind: assistMaps})
	}
	if c.ns.user() {
		c.c.call(unix.SYS_SETRESGID, imm(0), imm(0), imm(0)).at("setresgid", "0")
		c.c.call(unix.SYS_SETRESUID, imm(0), imm(0), imm(0)).at("setresuid", "0")
		c.c.call(unix.SYS_PRCTL, imm(unix.PR_SET_PDEATHSIG), imm(unix.SIGKILL)).at("prctl", "PR_SET_PDEATHSIG")
	}
	return nil
}

func (c *compiler) joinNamespace(flag uint64) {
	p := c.ns.join[flag]
	fd := c.opened()
	c.h.call(unix.SYS_OPENAT, imm(unix.AT_FDCWD), c.str(p).arg(), imm(unix.O_RDONLY|unix.O_CLOEXEC)).
		into(fd).at("open namespace", p)
	c.c.call(unix.SYS_SETNS, fd.arg(), imm(flag)).at("join namespace", p)
}

func (c *compiler) joinNamespaces() error {
	if c.in.netNS {
		c.netNS = c.input()
		c.c.call(unix.SYS_SETNS, c.netNS.arg(), imm(uint64(unix.CLONE_NEWNET))).at("join namespace", "network")
	}
	for _, flag := range []uint64{unix.CLONE_NEWNET, unix.CLONE_NEWIPC, unix.CLONE_NEWUTS, unix.CLONE_NEWTIME} {
		if c.ns.join[flag] == "" || flag == unix.CLONE_NEWNET && c.in.netNS {
			continue
		}
		c.joinNamespace(flag)
	}
	if p := c.ns.join[unix.CLONE_NEWPID]; p != "" {
		// The thread that makes the child joins it. Who is in that namespace already could look into the child's memory,
		// so that must not be this process's.
		c.pidNS = c.opened()
		c.plain = true
		c.h.call(unix.SYS_OPENAT, imm(unix.AT_FDCWD), c.str(p).arg(), imm(unix.O_RDONLY|unix.O_CLOEXEC)).into(c.pidNS).
			at("open namespace", p)
	}
	if p := c.ns.join[unix.CLONE_NEWCGROUP]; p != "" {
		c.joinNamespace(unix.CLONE_NEWCGROUP)
	}
	return nil
}

// mountNamespace enters a mount namespace of the container's own. An empty one stands ready, so that nothing of the host
// needs to be copied and unmounted; inside a user namespace, which cannot enter that, the host's is copied.
func (c *compiler) mountNamespace() error {
	fresh := c.ns.fresh & unix.CLONE_NEWCGROUP
	if c.emptyBase() {
		c.base = c.input()
		c.c.call(unix.SYS_SETNS, c.base.arg(), imm(uint64(unix.CLONE_NEWNS))).at("join namespace", "base")
		c.c.call(unix.SYS_UNSHARE, imm(fresh|unix.CLONE_NEWNS)).at("unshare", "mount and cgroup namespace")
	} else {
		if !c.ns.user() {
			fresh |= unix.CLONE_NEWNS
		}
		if fresh != 0 {
			c.c.call(unix.SYS_UNSHARE, imm(fresh)).at("unshare", "mount and cgroup namespace")
		}
		c.c.call(unix.SYS_MOUNT, imm(0), c.str("/").arg(), imm(0), imm(unix.MS_REC|unix.MS_PRIVATE)).at("make private", "/")
	}
	c.flags = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PARENT_SETTID
	later := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME)
	if c.ns.fresh&unix.CLONE_NEWUSER != 0 {
		later &^= unix.CLONE_NEWNS
	}
	c.flags |= c.ns.fresh &^ later
	if c.in.netNS {
		c.flags &^= unix.CLONE_NEWNET
	}
	if c.in.v2 != "" {
		c.flags |= unix.CLONE_INTO_CGROUP
	}
	return nil
}

func (c *compiler) emptyBase() bool { return c.in.facts.Base && !c.ns.user() && !c.oldOverlay() }

// loopback brings up the loopback device of a new network namespace.
func (c *compiler) loopback() error {
	if c.ns.fresh&unix.CLONE_NEWNET == 0 || c.in.netNS {
		return nil
	}
	s := c.slot()
	request := make([]byte, 40) // struct ifreq
	copy(request, "lo")
	request[16] = unix.IFF_UP
	c.c.call(unix.SYS_SOCKET, imm(unix.AF_INET), imm(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), imm(0)).into(s).at("socket", "")
	c.c.call(unix.SYS_IOCTL, s.arg(), imm(uint64(unix.SIOCSIFFLAGS)), c.bytes(request).arg()).at("bring up", "lo")
	return nil
}

func (c *compiler) names() error {
	for _, n := range []struct {
		nr   int
		step string
		name string
	}{
		{unix.SYS_SETHOSTNAME, "sethostname", c.spec.Hostname},
		{unix.SYS_SETDOMAINNAME, "setdomainname", c.spec.Domainname},
	} {
		if n.name == "" {
			continue
		}
		if !c.ns.has(unix.CLONE_NEWUTS) {
			return fmt.Errorf("a host or domain name without a uts namespace: %w", errdefs.ErrInvalidArgument)
		}
		c.c.call(n.nr, c.str(n.name).arg(), imm(len(n.name))).at(n.step, n.name)
	}
	return nil
}
