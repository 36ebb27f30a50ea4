package runtime

import (
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

// mounts adds the specification's mounts in their order.
func (c *compiler) mounts() error {
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		if err := c.mount(m); err != nil {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	return nil
}

func (c *compiler) mount(m *specs.Mount) error {
	dest := path.Clean("/" + m.Destination)
	if dest == "/" {
		return fmt.Errorf("a mount over the root filesystem: %w", errdefs.ErrInvalidArgument)
	}
	o, err := parseMountOptions(m.Options)
	if err != nil {
		return err
	}
	if m.Type == "bind" || o.bind {
		if err := c.guardProc(dest, m); err != nil {
			return err
		}
		return c.bind(m, dest, &o)
	}
	if err := c.guardProc(dest, m); err != nil {
		return err
	}
	switch m.Type {
	case "cgroup":
		return c.cgroups(m, dest, &o)
	case "":
		return fmt.Errorf("no type: %w", errdefs.ErrInvalidArgument)
	}
	return c.filesystem(m, dest, &o)
}

// Files of /proc that a container may be given its own version of, as runc has it (lxcfs does that).
var coverableProc = map[string]bool{
	"/proc/cpuinfo": true, "/proc/diskstats": true, "/proc/meminfo": true, "/proc/stat": true, "/proc/swaps": true,
	"/proc/uptime": true, "/proc/loadavg": true, "/proc/slabinfo": true, "/proc/net/dev": true,
	"/proc/sys/kernel/ns_last_pid": true, "/proc/sys/crypto/fips_enabled": true,
}

// guardProc refuses mounts that would fake /proc, on which later steps and the container's own confinement rely.
func (c *compiler) guardProc(dest string, m *specs.Mount) error {
	if dest != "/proc" && !strings.HasPrefix(dest, "/proc/") {
		return nil
	}
	if dest == "/proc" {
		if m.Type == "proc" || m.Source == "/proc" {
			return nil
		}
		return fmt.Errorf("only a proc filesystem may be mounted there: %w", errdefs.ErrInvalidArgument)
	}
	if coverableProc[dest] || m.Type == "binfmt_misc" && dest == "/proc/sys/fs/binfmt_misc" {
		return nil
	}
	return fmt.Errorf("a mount inside of /proc: %w", errdefs.ErrInvalidArgument)
}

// filesystem mounts a new filesystem.
func (c *compiler) filesystem(m *specs.Mount, dest string, o *mountOptions) error {
	if o.recClear|o.recSet != 0 {
		o.set, o.clear = o.set|o.recSet, o.clear|o.recClear
	}
	fs := c.configure(m.Type, m.Source, o.data, dest)
	mnt := c.slot()
	c.c.call(unix.SYS_FSMOUNT, fs.arg(), imm(unix.FSMOUNT_CLOEXEC), imm(o.set)).into(mnt).at("mount "+m.Type, dest)
	strict := m.Type == "proc" || m.Type == "sysfs"
	_, moded := o.value("mode")
	switch {
	case c.dev != 0 && path.Dir(dest) == "/dev" && c.freshDev():
		name := c.str(path.Base(dest)).arg()
		c.c.call(unix.SYS_MKDIRAT, c.dev.arg(), name, imm(0o755)).ignore(unix.EEXIST).at("mkdir", dest)
		c.c.call(unix.SYS_MOVE_MOUNT, mnt.arg(), c.str("").arg(), c.dev.arg(), name, imm(moveFromEmpty)).
			at("mount "+m.Type, dest)
	default:
		t := c.target(dest, false, strict, m.Type == "tmpfs" && !moded, mnt)
		if o.copyUp && m.Type == "tmpfs" {
			c.ask(assist{kind: assistCopyUp, path: dest, fd: mnt})
		}
		c.move(mnt, t, m.Type, dest)
	}
	if o.propagation != 0 {
		c.setAttr(c.c, mnt, mountAttr{propagation: o.propagation, recursive: o.recPropagation}, dest)
	}
	switch {
	case dest == "/dev" && m.Type == "tmpfs" && o.set&unix.MOUNT_ATTR_NODEV == 0:
		c.dev = mnt
	case dest == "/dev/pts" && m.Type == "devpts":
		c.pts = mnt
	case m.Type == "proc" && c.proc == 0:
		c.proc = mnt
	}
	return nil
}

// freshDev says that /dev is a tmpfs of ours that no other mount has covered.
func (c *compiler) freshDev() bool {
	n := 0
	for i := range c.spec.Mounts {
		if path.Clean("/"+c.spec.Mounts[i].Destination) == "/dev" {
			n++
		}
	}
	return n == 1
}

// configure makes a filesystem's context and configures it up to its creation.
func (c *compiler) configure(kind, source string, data []string, dest string) slot {
	fs := c.slot()
	c.c.call(unix.SYS_FSOPEN, c.str(kind).arg(), imm(unix.FSOPEN_CLOEXEC)).into(fs).at("mount "+kind, dest)
	set := func(key, value string) {
		c.c.call(unix.SYS_FSCONFIG, fs.arg(), imm(unix.FSCONFIG_SET_STRING), c.str(key).arg(), c.str(value).arg(), imm(0)).
			at("mount "+kind+" with "+key+"="+value, dest)
	}
	if source != "" {
		set("source", source)
	}
	if l := c.mountLabel(); l != "" && !unlabelled[kind] {
		set("context", l)
	}
	for _, d := range data {
		if k, v, ok := strings.Cut(d, "="); ok {
			set(k, v)
			continue
		}
		c.c.call(unix.SYS_FSCONFIG, fs.arg(), imm(unix.FSCONFIG_SET_FLAG), c.str(d).arg(), imm(0), imm(0)).
			at("mount "+kind+" with "+d, dest)
	}
	c.c.call(unix.SYS_FSCONFIG, fs.arg(), imm(unix.FSCONFIG_CMD_CREATE), imm(0), imm(0), imm(0)).at("mount "+kind, dest)
	return fs
}

// unlabelled are the filesystems whose labels the policy gives.
var unlabelled = map[string]bool{"proc": true, "sysfs": true, "cgroup": true, "cgroup2": true}

// mountLabel is the SELinux label of the container's own filesystems, where the kernel has SELinux.
func (c *compiler) mountLabel() string {
	if !c.in.facts.SELinux {
		return ""
	}
	return c.spec.Linux.MountLabel
}

func (c *compiler) move(from, to slot, kind, dest string) *op {
	empty := c.str("").arg()
	return c.c.call(unix.SYS_MOVE_MOUNT, from.arg(), empty, to.arg(), empty, imm(moveFromEmpty|moveToEmpty)).
		at("mount "+kind, dest)
}

// target opens the place of a mount inside of the root filesystem, and makes it when it is missing. With adopt, the
// filesystem in mnt gets the mode of a directory that was there.
func (c *compiler) target(dest string, file, strict, adopt bool, mnt slot) slot {
	t := c.slot()
	resolve := uint64(insideRoot)
	if strict {
		// procfs and sysfs are what later steps trust: their place is a directory, not a link to one (CVE-2019-19921).
		resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	openat := func(name string, how arg, into slot) *op {
		return c.c.openat2(c.root.arg(), c.str(name).arg(), how, imm(howSize)).into(into).
			at("open mount target", dest)
	}
	how := c.openHow(unix.O_PATH, 0, resolve)
	missing, done := c.c.label(), c.c.label()
	openat(dest, how, t).on(unix.ENOENT, missing)
	if !strict && dest != "/proc" && !strings.HasPrefix(dest, "/proc/") && !strings.HasPrefix(dest, "/dev") {
		c.refuseProc(t, dest)
	}
	if adopt {
		c.c.call(unix.SYS_STATX, t.arg(), c.str("").arg(), imm(unix.AT_EMPTY_PATH), imm(unix.STATX_MODE), c.statBuf.arg()).
			at("stat", dest)
		c.c.call(unix.SYS_FCHMODAT, mnt.arg(), c.str(".").arg(), slot(c.statBuf+statxMode).arg()).at("chmod", dest)
	}
	c.c.bind(done)
	c.cold = append(c.cold, func() {
		help := c.c.label()
		c.c.bind(missing)
		if file {
			how := c.openHow(unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY, 0o644, resolve)
			openat(dest, how, t).onAny(help)
		} else {
			parent := c.slot()
			openat(path.Dir(dest), how, parent).onAny(help)
			c.c.call(unix.SYS_MKDIRAT, parent.arg(), c.str(path.Base(dest)).arg(), imm(0o755)).onAny(help)
			openat(dest, how, t).onAny(help)
		}
		c.c.jump(done)
		c.c.bind(help)
		c.ask(assist{kind: assistTarget, path: dest, file: file})
		openat(dest, how, t)
		c.c.jump(done)
	})
	return t
}

// refuseProc ends the set-up when a mount's place lies in a procfs that a link of the image or of a volume led to.
func (c *compiler) refuseProc(t slot, dest string) {
	inside := c.c.label()
	c.c.call(unix.SYS_FSTATFS, t.arg(), c.statBuf.arg()).at("open mount target", dest)
	c.c.ifEq(slot(c.statBuf), ^uint64(0), unix.PROC_SUPER_MAGIC, inside)
	c.cold = append(c.cold, func() {
		c.c.bind(inside)
		c.c.fail(unix.EPERM).at("mount inside of /proc by a link", dest)
	})
}

// Offsets in struct statx.
const statxMode = 28

// bind_ mounts a part of the host's tree. The parent opens it: a hostile path inside of the root never meets it.
func (c *compiler) bind(m *specs.Mount, dest string, o *mountOptions) error {
	if m.Source == "" || !path.IsAbs(m.Source) {
		return fmt.Errorf("source %q is not absolute: %w", m.Source, errdefs.ErrInvalidArgument)
	}
	dir, known := c.in.sources[m.Source]
	if !known {
		return fmt.Errorf("source %s: %w", m.Source, errdefs.ErrNotFound)
	}
	mnt := c.opened()
	flags := uint64(treeClone)
	if o.recursive {
		flags |= unix.AT_RECURSIVE
	}
	c.h.call(unix.SYS_OPEN_TREE, imm(unix.AT_FDCWD), c.str(m.Source).arg(), imm(flags)).into(mnt).at("open", m.Source)
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		if err := c.idmapped(mnt, m, o); err != nil {
			return err
		}
	}
	// What the host does to the source must not be undone by the mounts of the container, nor the other way round.
	prop := mountAttr{propagation: unix.MS_PRIVATE, recursive: true}
	if o.propagation != 0 {
		prop = mountAttr{propagation: o.propagation, recursive: o.recPropagation}
	}
	c.setAttr(c.h, mnt, prop, dest)
	if o.recSet|o.recClear != 0 {
		c.setAttr(c.h, mnt, mountAttr{set: o.recSet, clear: o.recClear, recursive: true}, dest)
	}
	if o.set|o.clear != 0 {
		c.setAttr(c.h, mnt, mountAttr{set: o.set, clear: o.clear}, dest)
	}
	t := c.target(dest, !dir, false, false, 0)
	c.move(mnt, t, "bind", dest)
	return nil
}

// idmapped shows the owners of a bind mount's files as a user namespace's mapping tells.
func (c *compiler) idmapped(mnt slot, m *specs.Mount, o *mountOptions) error {
	if len(m.UIDMappings) == 0 || len(m.GIDMappings) == 0 {
		return fmt.Errorf("an idmapped mount needs uid and gid mappings: %w", errdefs.ErrInvalidArgument)
	}
	flags := uint64(unix.AT_EMPTY_PATH)
	if o.recIdmap {
		flags |= unix.AT_RECURSIVE
	}
	attr := c.words(unix.MOUNT_ATTR_IDMAP, 0, 0, ^uint64(0))
	c.idmaps = append(c.idmaps, idmap{at: slot(attr) + 24, uid: m.UIDMappings, gid: m.GIDMappings})
	c.h.call(unix.SYS_MOUNT_SETATTR, mnt.arg(), c.str("").arg(), imm(flags), attr.arg(), imm(32)).at("map ids", m.Destination)
	return nil
}

// cgroups shows the container's own control groups.
func (c *compiler) cgroups(m *specs.Mount, dest string, o *mountOptions) error {
	if c.in.facts.CgroupV2 {
		v2 := *m
		v2.Type = "cgroup2"
		return c.filesystem(&v2, dest, o)
	}
	tmp := specs.Mount{Destination: dest, Type: "tmpfs", Source: "cgroup"}
	to := mountOptions{set: o.set &^ unix.MOUNT_ATTR_RDONLY, clear: o.clear, data: []string{"mode=755"}}
	fs := c.configure(tmp.Type, tmp.Source, to.data, dest)
	mnt := c.slot()
	c.c.call(unix.SYS_FSMOUNT, fs.arg(), imm(unix.FSMOUNT_CLOEXEC), imm(to.set)).into(mnt).at("mount cgroup", dest)
	c.move(mnt, c.target(dest, false, false, false, 0), "cgroup", dest)
	for _, t := range c.in.tasks {
		dir := path.Dir(t)
		name := c.in.facts.hierarchy(dir)
		if name == "" {
			continue
		}
		group := c.opened()
		c.h.call(unix.SYS_OPEN_TREE, imm(unix.AT_FDCWD), c.str(dir).arg(), imm(uint64(treeClone))).into(group).at("open", dir)
		c.setAttr(c.h, group, mountAttr{set: o.set, clear: o.clear, propagation: unix.MS_PRIVATE}, dir)
		n := c.str(name).arg()
		c.c.call(unix.SYS_MKDIRAT, mnt.arg(), n, imm(0o755)).at("mkdir", dest+"/"+name)
		c.c.call(unix.SYS_MOVE_MOUNT, group.arg(), c.str("").arg(), mnt.arg(), n, imm(moveFromEmpty)).
			at("mount cgroup", dest+"/"+name)
		for _, alias := range c.in.facts.aliases(name) {
			c.c.call(unix.SYS_SYMLINKAT, n, mnt.arg(), c.str(alias).arg()).at("symlink", dest+"/"+alias)
		}
	}
	if o.set&unix.MOUNT_ATTR_RDONLY != 0 {
		c.setAttr(c.c, mnt, mountAttr{set: unix.MOUNT_ATTR_RDONLY}, dest)
	}
	return nil
}
