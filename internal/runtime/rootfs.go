package runtime

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/sys"
)

// The flags of move_mount, open_tree and the other calls of the mount interface, by their kernel names.
const (
	moveFromEmpty = unix.MOVE_MOUNT_F_EMPTY_PATH
	moveToEmpty   = unix.MOVE_MOUNT_T_EMPTY_PATH
	treeClone     = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
)

// rootMount makes the root filesystem, detached, in the parent, and puts it over the child's root.
func (c *compiler) rootMount() error {
	if c.oldOverlay() {
		return c.mountOverlay(c.in.rootfs)
	}
	c.root = c.opened()
	c.hold = append(c.hold, c.root)
	if c.in.rootfs != nil {
		if err := c.overlay(c.in.rootfs); err != nil {
			return err
		}
	} else {
		p := c.spec.Root.Path
		c.h.call(unix.SYS_OPEN_TREE, imm(unix.AT_FDCWD), c.str(p).arg(),
			imm(uint64(treeClone|unix.AT_RECURSIVE))).into(c.root).at("open root filesystem", p)
		c.setAttr(c.h, c.root, mountAttr{propagation: unix.MS_PRIVATE, recursive: true}, "root filesystem")
	}
	c.c.call(unix.SYS_MOVE_MOUNT, c.root.arg(), c.str("").arg(), imm(unix.AT_FDCWD), c.str("/").arg(), imm(moveFromEmpty)).
		at("mount", "root filesystem")
	return nil
}

// oldOverlay says that the kernel takes an overlay's layers by mount(2) only (before Linux 6.8): the child mounts it.
func (c *compiler) oldOverlay() bool { return c.in.rootfs != nil && !c.in.facts.LayerOption }

func checkOverlay(o *sys.Overlay) error {
	if len(o.Lower) == 0 || (o.Upper == "") != (o.Work == "") {
		return fmt.Errorf("incomplete overlay: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// forgetCrash makes a volatile upper layer one that can be mounted again.
func (c *compiler) forgetCrash(o *sys.Overlay) {
	h := c.h
	if o.Volatile && o.Upper != "" {
		// The kernel's mark that the upper layer was not synced when it was last mounted. It is there for a host that
		// crashed; such a container is removed, not started, but one that merely starts again finds it too.
		mark := o.Work + "/work/incompat/volatile"
		clean := h.label()
		h.call(unix.SYS_UNLINKAT, imm(unix.AT_FDCWD), c.str(mark+"/dirty").arg(), imm(0)).onAny(clean).at("remove", mark)
		h.call(unix.SYS_UNLINKAT, imm(unix.AT_FDCWD), c.str(mark).arg(), imm(unix.AT_REMOVEDIR)).onAny(labelNext).
			at("remove", mark)
		h.bind(clean)
	}
}

func (c *compiler) overlay(o *sys.Overlay) error {
	if err := checkOverlay(o); err != nil {
		return err
	}
	c.forgetCrash(o)
	fs := c.opened()
	h := c.h
	h.call(unix.SYS_FSOPEN, c.str("overlay").arg(), imm(unix.FSOPEN_CLOEXEC)).into(fs).at("fsopen", "overlay")
	set := func(key, value string) {
		h.call(unix.SYS_FSCONFIG, fs.arg(), imm(unix.FSCONFIG_SET_STRING), c.str(key).arg(), c.str(value).arg(), imm(0)).
			at("overlay "+key, value)
	}
	// Without a source, mountinfo shows "none".
	set("source", "overlay")
	if l := c.mountLabel(); l != "" {
		set("context", l)
	}
	for _, l := range o.Lower {
		set("lowerdir+", l)
	}
	if o.Upper != "" {
		set("upperdir", o.Upper)
		set("workdir", o.Work)
	}
	for _, flag := range []struct {
		on   bool
		name string
	}{{o.Volatile && o.Upper != "", "volatile"}, {o.UserXattr, "userxattr"}} {
		if flag.on {
			h.call(unix.SYS_FSCONFIG, fs.arg(), imm(unix.FSCONFIG_SET_FLAG), c.str(flag.name).arg(), imm(0), imm(0)).
				at("overlay", flag.name)
		}
	}
	h.call(unix.SYS_FSCONFIG, fs.arg(), imm(unix.FSCONFIG_CMD_CREATE), imm(0), imm(0), imm(0)).at("mount overlay", o.Lower[0])
	h.call(unix.SYS_FSMOUNT, fs.arg(), imm(unix.FSMOUNT_CLOEXEC), imm(0)).into(c.root).at("fsmount", "overlay")
	return nil
}

// mountOverlay mounts the overlay over its own topmost layer, in the child's copy of the host's mount namespace.
func (c *compiler) mountOverlay(o *sys.Overlay) error {
	if err := checkOverlay(o); err != nil {
		return err
	}
	c.forgetCrash(o)
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`)
	layers := make([]string, 0, len(o.Lower))
	for _, l := range o.Lower {
		layers = append(layers, escape.Replace(l))
	}
	data := "lowerdir=" + strings.Join(layers, ":")
	if o.Upper != "" {
		data += ",upperdir=" + escape.Replace(o.Upper) + ",workdir=" + escape.Replace(o.Work)
		if o.Volatile {
			data += ",volatile"
		}
	}
	if o.UserXattr {
		data += ",userxattr"
	}
	if len(data) >= 4096 {
		return fmt.Errorf("this kernel cannot mount %d layers with paths this long: %w", len(o.Lower), errdefs.ErrNotImplemented)
	}
	c.root = c.slot()
	place, kind := c.str(o.Lower[0]).arg(), c.str("overlay").arg()
	c.c.call(unix.SYS_MOUNT, kind, place, kind, imm(0), c.str(data).arg()).at("mount overlay", o.Lower[0])
	c.c.call(unix.SYS_OPENAT, imm(unix.AT_FDCWD), place, imm(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)).into(c.root).
		at("open root filesystem", o.Lower[0])
	return nil
}

// mountAttr is what mount_setattr changes.
type mountAttr struct {
	set, clear, propagation uint64
	recursive               bool
}

func (c *compiler) setAttr(s *section, at slot, a mountAttr, name string) {
	flags := uint64(unix.AT_EMPTY_PATH)
	if a.recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := c.words(a.set, a.clear, a.propagation, 0)
	s.call(unix.SYS_MOUNT_SETATTR, at.arg(), c.str("").arg(), imm(flags), attr.arg(), imm(32)).
		at("mount attributes", name)
}

// enterRoot makes the container's root filesystem the child's root, and finishes it.
func (c *compiler) enterRoot() error {
	var a mountAttr
	if c.spec.Root != nil && c.spec.Root.Readonly {
		a.set = unix.MOUNT_ATTR_RDONLY
	}
	if a.set != 0 {
		c.setAttr(c.c, c.root, a, "/")
	}
	if p := c.spec.Linux.RootfsPropagation; p != "" {
		m, err := parseMountOptions([]string{p})
		if err != nil || m.propagation == 0 {
			return fmt.Errorf("root filesystem propagation %q: %w", p, errdefs.ErrInvalidArgument)
		}
		// A tree that is its own has no peers: to be a slave of nothing is to be private. Only shared changes anything.
		if m.propagation != unix.MS_SLAVE {
			c.setAttr(c.c, c.root, mountAttr{propagation: m.propagation}, "/")
		}
	}
	c.c.call(unix.SYS_FCHDIR, c.root.arg()).at("chdir", "root filesystem")
	if c.emptyBase() {
		c.c.call(unix.SYS_CHROOT, c.str(".").arg()).at("chroot", "root filesystem")
		return nil
	}
	dot := c.str(".").arg()
	c.c.call(unix.SYS_PIVOT_ROOT, dot, dot).at("pivot_root", "root filesystem")
	c.c.call(unix.SYS_UMOUNT2, dot, imm(unix.MNT_DETACH)).at("unmount", "the host's root")
	c.c.call(unix.SYS_CHDIR, c.str("/").arg()).at("chdir", "/")
	return nil
}
