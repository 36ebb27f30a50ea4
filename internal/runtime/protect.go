package runtime

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

// maskedPaths hides paths: a file behind the null device, a directory behind an empty one. Neither comes from the
// container, whose own could be something else (CVE-2025-31133).
func (c *compiler) maskedPaths() error {
	for _, p := range c.spec.Linux.MaskedPaths {
		if err := absolute(p); err != nil {
			return err
		}
		next, dir := c.c.label(), c.c.label()
		t, mask := c.slot(), c.slot()
		c.openProtected(p, t, next)
		if c.emptyBase() {
			c.openMask("/null", mask)
		} else {
			c.openMask("/dev/null", mask)
		}
		c.move(mask, t, "mask", p).on(unix.EINVAL, dir).on(unix.ENOTDIR, dir)
		c.c.bind(next)
		c.cold = append(c.cold, func() {
			c.c.bind(dir)
			mask := c.slot()
			if c.emptyBase() {
				c.openMask("/empty", mask)
			} else {
				fs := c.configure("tmpfs", "tmpfs", []string{"mode=755", "size=0", "nr_inodes=1"}, p)
				c.c.call(unix.SYS_FSMOUNT, fs.arg(), imm(unix.FSMOUNT_CLOEXEC), imm(unix.MOUNT_ATTR_RDONLY)).into(mask).
					at("mask", p)
			}
			c.move(mask, t, "mask", p)
			c.c.jump(next)
		})
	}
	return nil
}

// openMask clones a mount of the namespace that the child's root still is in: the empty base, or the host's copy.
func (c *compiler) openMask(p string, into slot) {
	c.c.call(unix.SYS_OPEN_TREE, imm(unix.AT_FDCWD), c.str(p).arg(), imm(uint64(treeClone))).into(into).at("open mask", p)
}

// openProtected opens a path inside of the root; what is not there needs no protection.
func (c *compiler) openProtected(p string, into slot, missing label) {
	c.c.openat2(c.root.arg(), c.str(path.Clean(p)).arg(), c.openHow(unix.O_PATH, 0, insideRoot), imm(howSize)).
		into(into).on(unix.ENOENT, missing).on(unix.ENOTDIR, missing).at("open", p)
}

func absolute(p string) error {
	if !path.IsAbs(p) {
		return fmt.Errorf("masked or read-only path %q is not absolute: %w", p, errdefs.ErrInvalidArgument)
	}
	return nil
}

// readonlyPaths mounts paths over themselves, read-only.
func (c *compiler) readonlyPaths() error {
	for _, p := range c.spec.Linux.ReadonlyPaths {
		if err := absolute(p); err != nil {
			return err
		}
		next := c.c.label()
		t, mnt := c.slot(), c.slot()
		c.openProtected(p, t, next)
		c.c.call(unix.SYS_OPEN_TREE, t.arg(), c.str("").arg(), imm(uint64(treeClone|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE))).
			into(mnt).at("open", p)
		c.setAttr(c.c, mnt, mountAttr{set: unix.MOUNT_ATTR_RDONLY}, p)
		c.move(mnt, t, "read-only", p)
		c.c.bind(next)
	}
	return nil
}

// procfs is a procfs of the container's pid namespace, at hand whether the container gets to see one or not. Files
// below it are what they seem to be (CVE-2025-52881).
func (c *compiler) procfs() slot {
	if c.proc == 0 {
		fs := c.configure("proc", "proc", nil, "for the set-up")
		mnt := c.slot()
		c.c.call(unix.SYS_FSMOUNT, fs.arg(), imm(unix.FSMOUNT_CLOEXEC), imm(0)).into(mnt).at("mount proc", "for the set-up")
		c.proc = mnt
	}
	return c.proc
}

// writeProc writes to a file of procfs.
func (c *compiler) writeProc(name, value, step string) {
	f := c.slot()
	how := c.openHow(unix.O_WRONLY, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_MAGICLINKS)
	c.c.openat2(c.procfs().arg(), c.str(name).arg(), how, imm(howSize)).into(f).at(step, "/proc/"+name)
	c.c.call(unix.SYS_WRITE, f.arg(), c.str(value).arg(), imm(len(value))).at(step, "/proc/"+name)
}

// Kernel parameters that belong to a namespace, by the namespace's flag.
var ipcSysctls = map[string]bool{
	"kernel.msgmax": true, "kernel.msgmnb": true, "kernel.msgmni": true, "kernel.sem": true, "kernel.shmall": true,
	"kernel.shmmax": true, "kernel.shmmni": true, "kernel.shm_rmid_forced": true,
}

func (c *compiler) sysctls() error {
	set := c.spec.Linux.Sysctl
	for _, k := range slices.Sorted(maps.Keys(set)) {
		name := strings.ReplaceAll(k, "/", ".")
		if err := c.allowSysctl(name); err != nil {
			return err
		}
		file := strings.ReplaceAll(k, ".", "/")
		if strings.Contains(k, "/") {
			file = k // net/ipv4/conf/eth0.1/..., as sysctl(8) has it
		}
		file = path.Clean("/" + file)[1:]
		c.writeProc("sys/"+file, set[k], "sysctl")
	}
	return nil
}

func (c *compiler) allowSysctl(name string) error {
	needs := uint64(0)
	kind := specs.LinuxNamespaceType("")
	switch {
	case strings.Contains(name, ".."):
	case ipcSysctls[name], strings.HasPrefix(name, "fs.mqueue."):
		needs, kind = unix.CLONE_NEWIPC, specs.IPCNamespace
	case strings.HasPrefix(name, "net."):
		needs, kind = unix.CLONE_NEWNET, specs.NetworkNamespace
	case name == "kernel.domainname", name == "kernel.hostname":
		needs, kind = unix.CLONE_NEWUTS, specs.UTSNamespace
	case strings.HasPrefix(name, "user."):
		needs, kind = unix.CLONE_NEWUSER, specs.UserNamespace
	}
	if needs == 0 {
		return fmt.Errorf("sysctl %s is not of a namespace of its own: %w", name, errdefs.ErrInvalidArgument)
	}
	if joined := c.in.netNS && needs == unix.CLONE_NEWNET; !joined && !c.ns.has(needs) {
		return fmt.Errorf("sysctl %s of the host's %s namespace: %w", name, kind, errdefs.ErrInvalidArgument)
	}
	return nil
}
