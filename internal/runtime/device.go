package runtime

import (
	"fmt"
	"os"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

// node is a device to make.
type node struct {
	path     string
	mode     uint32 // type and permissions
	dev      uint64
	uid, gid *uint32
}

var standardNodes = []node{
	{path: "/dev/null", mode: unix.S_IFCHR | 0o666, dev: unix.Mkdev(1, 3)},
	{path: "/dev/zero", mode: unix.S_IFCHR | 0o666, dev: unix.Mkdev(1, 5)},
	{path: "/dev/full", mode: unix.S_IFCHR | 0o666, dev: unix.Mkdev(1, 7)},
	{path: "/dev/random", mode: unix.S_IFCHR | 0o666, dev: unix.Mkdev(1, 8)},
	{path: "/dev/urandom", mode: unix.S_IFCHR | 0o666, dev: unix.Mkdev(1, 9)},
	{path: "/dev/tty", mode: unix.S_IFCHR | 0o666, dev: unix.Mkdev(5, 0)},
}

var standardLinks = [][2]string{
	{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
}

// devices fills /dev, unless it is the host's.
func (c *compiler) devices() error {
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		o, err := parseMountOptions(m.Options)
		if err != nil {
			return err
		}
		if path.Clean("/"+m.Destination) == "/dev" && (m.Type == "bind" || o.bind) {
			return nil
		}
	}
	if c.dev == 0 {
		c.dev = c.target("/dev", false, false, false, 0)
	}
	nodes := make([]node, 0, len(standardNodes)+len(c.spec.Linux.Devices))
	seen := map[string]bool{}
	for i := range c.spec.Linux.Devices {
		if ownDevice(c.spec.Linux.Devices[i].Path) {
			continue
		}
		n, err := readNode(&c.spec.Linux.Devices[i])
		if err != nil {
			return err
		}
		if seen[n.path] {
			return fmt.Errorf("device %s twice: %w", n.path, errdefs.ErrInvalidArgument)
		}
		seen[n.path] = true
		nodes = append(nodes, n)
	}
	for _, n := range standardNodes {
		if !seen[n.path] {
			nodes = append(nodes, n)
		}
	}
	dirs := map[string]slot{"/dev": c.dev}
	for _, n := range nodes {
		c.device(n, dirs)
	}
	for _, l := range standardLinks {
		c.devLink(l[0], l[1])
	}
	if c.in.facts.Kcore {
		c.devLink("/proc/kcore", "core")
	}
	if c.pts != 0 {
		c.devLink("pts/ptmx", "ptmx")
	}
	return nil
}

func (c *compiler) devLink(to, name string) {
	c.c.call(unix.SYS_SYMLINKAT, c.str(to).arg(), c.dev.arg(), c.str(name).arg()).ignore(unix.EEXIST).
		at("symlink", "/dev/"+name)
}

func readNode(d *specs.LinuxDevice) (node, error) {
	n := node{path: path.Clean("/" + d.Path), uid: d.UID, gid: d.GID}
	perm := os.FileMode(0o666)
	if d.FileMode != nil {
		perm = *d.FileMode
	}
	n.mode = uint32(perm.Perm())
	switch d.Type {
	case "c", "u":
		n.mode |= unix.S_IFCHR
	case "b":
		n.mode |= unix.S_IFBLK
	case "p":
		n.mode |= unix.S_IFIFO
	default:
		return n, fmt.Errorf("device %s of type %q: %w", d.Path, d.Type, errdefs.ErrInvalidArgument)
	}
	n.dev = unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	return n, nil
}

// ownDevice says that a container has a device of this name that is its own, not the host's, which privileged ones list.
func ownDevice(name string) bool {
	name = path.Clean("/" + name)
	return name == "/dev/ptmx" || name == "/dev/console" || strings.HasPrefix(name, "/dev/pts/") ||
		strings.HasPrefix(name, "/dev/fd/")
}

// device makes one node: below /dev in the directory that is held, elsewhere by a resolved one.
func (c *compiler) device(n node, dirs map[string]slot) {
	dir, ok := dirs[path.Dir(n.path)]
	if !ok {
		dir = c.deviceDir(path.Dir(n.path), dirs)
		dirs[path.Dir(n.path)] = dir
	}
	name := c.str(path.Base(n.path)).arg()
	if c.ns.user() {
		// A user namespace may not make devices: the host's is shown.
		mnt, file := c.opened(), c.slot()
		c.h.call(unix.SYS_OPEN_TREE, imm(unix.AT_FDCWD), c.str(n.path).arg(), imm(uint64(treeClone))).into(mnt).
			at("open device", n.path)
		c.c.call(unix.SYS_OPENAT, dir.arg(), name, imm(unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC), imm(0o644)).
			into(file).at("create device", n.path)
		c.move(mnt, file, "device", n.path)
		return
	}
	made, there := c.c.label(), c.c.label()
	c.c.call(unix.SYS_MKNODAT, dir.arg(), name, imm(n.mode), imm(n.dev)).on(unix.EEXIST, there).at("create device", n.path)
	if n.uid != nil || n.gid != nil {
		uid, gid := uint32(0), uint32(0)
		if n.uid != nil {
			uid = *n.uid
		}
		if n.gid != nil {
			gid = *n.gid
		}
		if uid|gid != 0 {
			c.c.call(unix.SYS_FCHOWNAT, dir.arg(), name, imm(uid), imm(gid), imm(unix.AT_SYMLINK_NOFOLLOW)).
				at("chown device", n.path)
		}
	}
	c.c.bind(made)
	c.cold = append(c.cold, func() {
		// The image brought something of this name: it makes way.
		c.c.bind(there)
		c.c.call(unix.SYS_UNLINKAT, dir.arg(), name, imm(0)).at("replace device", n.path)
		c.c.call(unix.SYS_MKNODAT, dir.arg(), name, imm(n.mode), imm(n.dev)).at("create device", n.path)
		c.c.jump(made)
	})
}

// deviceDir makes the directories between one that is held and a device.
func (c *compiler) deviceDir(dir string, dirs map[string]slot) slot {
	if !strings.HasPrefix(dir, "/dev/") {
		return c.target(dir, false, false, false, 0)
	}
	parent, ok := dirs[path.Dir(dir)]
	if !ok {
		parent = c.deviceDir(path.Dir(dir), dirs)
		dirs[path.Dir(dir)] = parent
	}
	s := c.slot()
	name := c.str(path.Base(dir)).arg()
	c.c.call(unix.SYS_MKDIRAT, parent.arg(), name, imm(0o755)).ignore(unix.EEXIST).at("mkdir", dir)
	c.c.call(unix.SYS_OPENAT, parent.arg(), name, imm(unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)).
		into(s).at("open", dir)
	return s
}

// terminal allocates a terminal in the container's own devpts and hands its master side to the parent.
func (c *compiler) terminal() error {
	if !c.terminalWanted() {
		return nil
	}
	if c.pts == 0 {
		return fmt.Errorf("a terminal without a devpts at /dev/pts: %w", errdefs.ErrInvalidArgument)
	}
	c.openTerminal(func(master slot) {
		c.c.call(unix.SYS_OPENAT, c.pts.arg(), c.str("ptmx").arg(), imm(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).
			into(master).at("open terminal", "/dev/pts/ptmx")
	})
	// /dev/console is the terminal: put over a file that was made here and now in a directory that is held.
	file, mnt := c.slot(), c.slot()
	c.c.call(unix.SYS_OPENAT, c.dev.arg(), c.str("console").arg(), imm(unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC),
		imm(0o600)).into(file).at("create", "/dev/console")
	c.c.call(unix.SYS_OPEN_TREE, c.stdio[0].arg(), c.str("").arg(), imm(uint64(treeClone|unix.AT_EMPTY_PATH))).into(mnt).
		at("open terminal", "/dev/console")
	c.move(mnt, file, "bind", "/dev/console")
	return nil
}

// openTerminal opens both sides, sizes the terminal, sends the master to the parent and leaves the other in c.stdio.
func (c *compiler) openTerminal(open func(master slot)) {
	// struct msghdr with one byte of data and one descriptor as ancillary data.
	control := c.words(20, uint64(unix.SOL_SOCKET)|uint64(unix.SCM_RIGHTS)<<32, 0)
	master := slot(control) + 16
	payload := c.words(c.assist(assist{kind: assistConsole}))
	iov := c.words(0, 8)
	c.pointer(uint64(iov), payload)
	hdr := c.words(0, 0, 0, 1, 0, 24, 0)
	c.pointer(uint64(hdr)+16, iov)
	c.pointer(uint64(hdr)+32, control)

	open(master)
	unlock := c.words(0)
	slave := c.slot()
	c.c.call(unix.SYS_IOCTL, master.arg(), imm(uint64(unix.TIOCSPTLCK)), unlock.arg()).at("unlock terminal", "")
	c.c.call(unix.SYS_IOCTL, master.arg(), imm(uint64(unix.TIOCGPTPEER)), imm(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).
		into(slave).at("open terminal", "peer")
	if box := c.spec.Process.ConsoleSize; box != nil {
		size := c.words(uint64(uint16(box.Height)) | uint64(uint16(box.Width))<<16)
		c.c.call(unix.SYS_IOCTL, master.arg(), imm(uint64(unix.TIOCSWINSZ)), size.arg()).at("size terminal", "")
	}
	c.c.call(unix.SYS_SENDMSG, slotSocket.arg(), hdr.arg(), imm(0)).at("send terminal", "")
	c.stdio = [3]slot{slave, slave, slave}
}
