package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/cgroup"
)

// kernel says which one it is and which of the things that kist builds on it has.
func kernel(_ context.Context, h *host) []Finding {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return []Finding{fail("version", err.Error(), "")}
	}
	release := unix.ByteSliceToString(uts.Release[:])
	var major, minor int
	_, _ = fmt.Sscanf(release, "%d.%d", &major, &minor)
	list := []Finding{ok("version", "Linux "+release+" on "+unix.ByteSliceToString(uts.Machine[:]))}
	if major < 5 || major == 5 && minor < 10 {
		list[0] = fail("version", "Linux "+release+": kist needs 5.10 at least", "install a newer kernel")
	}
	list = append(list, overlay(h.DataRoot))
	for _, c := range []struct {
		name, since string
		absent      bool
	}{
		{"pidfd", "5.3", missingCall(unix.SYS_PIDFD_OPEN)},
		{"openat2", "5.6", missingCall(unix.SYS_OPENAT2)},
		{"close_range", "5.9", missingCall(unix.SYS_CLOSE_RANGE)},
	} {
		if c.absent {
			list = append(list, fail(c.name, "the kernel does not have it, or a seccomp profile forbids it; it is there since Linux "+c.since, "run kist outside of that sandbox, or install a newer kernel"))
		}
	}
	if missingCall(unix.SYS_MOUNT_SETATTR) {
		list = append(list, warn("idmapped mounts", "the kernel does not have them (they are there since Linux 5.12): -v src:dst:idmap is refused", "install a newer kernel"))
	}
	if _, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail"); err != nil {
		list = append(list, warn("seccomp", "the kernel has no system call filters: containers run without their profile", "a kernel with CONFIG_SECCOMP_FILTER"))
	}
	return append(list, ok("features", "pidfd, openat2, close_range, seccomp and idmapped mounts were looked for"))
}

// missingCall makes a system call with arguments that no kernel accepts.
func missingCall(number uintptr) bool {
	bad := ^uintptr(0)
	_, _, errno := unix.Syscall6(number, bad, 0, bad, bad, 0, 0)
	return errno == unix.ENOSYS || errno == unix.EPERM && number != unix.SYS_MOUNT_SETATTR
}

// DataRoot says why a directory cannot be a daemon's data root; nil if it can.
func DataRoot(root string) *Finding {
	if f := overlay(root); f.State == Fail {
		return &f
	}
	return nil
}

// overlay mounts one, as a container's root is: with its writable part in the data root. The mount is nowhere in the tree.
func overlay(root string) Finding {
	const name = "overlay"
	dir, err := probeDir(root)
	if err != nil {
		return fail(name, "cannot be tried: "+err.Error(), "make the data root writable")
	}
	defer os.RemoveAll(dir)
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fail(name, "the kernel has no overlayfs", "modprobe overlay")
	case errors.Is(err, unix.EPERM):
		return fail(name, "this process may not mount: it is not root, or in a container itself", "sudo kist doctor")
	case err != nil:
		return fail(name, "fsopen: "+err.Error(), "a kernel of 5.10 or newer")
	}
	defer unix.Close(fd)
	for _, kv := range [][2]string{{"lowerdir", "l"}, {"upperdir", "u"}, {"workdir", "w"}} {
		at := filepath.Join(dir, kv[1])
		if err := os.Mkdir(at, 0o700); err != nil {
			return fail(name, err.Error(), "")
		}
		if err = unix.FsconfigSetString(fd, kv[0], at); err != nil {
			break
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fd)
	}
	if err != nil {
		return fail(name, fmt.Sprintf("a container's root cannot be made in %s (%s): %v", root, fileSystem(root), err),
			"a data root on ext4, XFS or Btrfs: kistd --data-root DIRECTORY")
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fail(name, "fsmount: "+err.Error(), "")
	}
	_ = unix.Close(m)
	return ok(name, "a container's root can be made in "+root+" ("+fileSystem(root)+")")
}

// probeDir is an empty directory in the data root, or where it would be.
func probeDir(root string) (string, error) {
	return os.MkdirTemp(existing(root), ".kist-doctor-")
}

// existing is the path, or the nearest one above it that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" {
			return path
		}
		path = filepath.Dir(path)
	}
}

// cgroups says what can be limited.
func cgroups(_ context.Context, _ *host) []Finding {
	f, err := cgroup.Probe()
	if err != nil {
		return []Finding{fail("version", err.Error(), "mount -t cgroup2 none /sys/fs/cgroup")}
	}
	version := "2"
	if f.Version == 1 {
		version = "1"
		var st unix.Statfs_t
		if unix.Statfs("/sys/fs/cgroup/unified", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			version = "hybrid (controllers on version 1)"
		}
	}
	list := []Finding{ok("version", version)}
	var missing []string
	for _, c := range []struct {
		name string
		has  bool
	}{{"memory", f.Memory}, {"cpu", f.CPUShares}, {"cpuset", f.Cpuset}, {"pids", f.Pids}, {"io", f.BlkioThrottle}} {
		if !c.has {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		try := "enable them: echo +" + strings.Join(missing, " +") + " > /sys/fs/cgroup/cgroup.subtree_control"
		if f.Version == 1 || missing[0] == "memory" {
			try = "cgroup_enable=memory swapaccount=1 on the kernel's command line, where it is memory"
		}
		list = append(list, warn("controllers", strings.Join(missing, ", ")+" cannot be limited", try))
	} else {
		list = append(list, ok("controllers", "memory, cpu, cpuset, pids and io can be limited"))
	}
	if err := unix.Access("/sys/fs/cgroup", unix.W_OK); err != nil {
		try := "mount -o remount,rw /sys/fs/cgroup"
		if os.Geteuid() != 0 {
			try = "sudo kist doctor"
		}
		list = append(list, fail("writable", "/sys/fs/cgroup: "+err.Error(), try))
	}
	return list
}

// namespaces makes some, with a bridge and a veth pair and an empty firewall in them, and drops them.
func namespaces(_ context.Context, _ *host) []Finding {
	done := make(chan []Finding)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends, and the namespaces with it
		done <- tryNamespaces()
	}()
	list := <-done
	if n := line("/proc/sys/user/max_user_namespaces"); n == "0" {
		list = append(list, warn("user", "user namespaces are switched off", "sysctl -w user.max_user_namespaces=65536"))
	}
	return list
}

func tryNamespaces() []Finding {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP | unix.CLONE_FS); err != nil {
		try := "sysctl -a | grep '^user.max_.*_namespaces'; in a container: run it with --privileged"
		if os.Geteuid() != 0 {
			try = "sudo kist doctor"
		}
		return []Finding{fail("make", "mount, net, uts, ipc and cgroup namespaces cannot be made: "+err.Error(), try)}
	}
	list := []Finding{ok("make", "mount, net, uts, ipc and cgroup namespaces can be made")}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "kist-try"}, PeerName: "kist-peer"}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "kist-bridge"}}
	for _, l := range []struct {
		name, module string
		link         netlink.Link
	}{{"veth", "veth", veth}, {"bridge", "bridge", bridge}} {
		if err := netlink.LinkAdd(l.link); err != nil {
			list = append(list, fail(l.name, "cannot be made: "+err.Error(), "modprobe "+l.module))
		}
	}
	c, err := nftables.New()
	if err == nil {
		c.AddTable(&nftables.Table{Name: "kist-try", Family: nftables.TableFamilyINet})
		err = c.Flush()
	}
	if err != nil {
		return append(list, fail("nftables", "no table can be made: "+err.Error(), "modprobe nf_tables nft_nat nft_masq nft_fib_inet"))
	}
	return append(list, ok("network", "a veth pair, a bridge and an nftables table were made and dropped in them"))
}

// users looks at who may do what.
func users(_ context.Context, _ *host) []Finding {
	if os.Geteuid() != 0 {
		return []Finding{fail("root", fmt.Sprintf("this is user %d: kist needs root", os.Geteuid()), "sudo kist doctor")}
	}
	list := []Finding{}
	if caps := line2("/proc/self/status", "CapEff:"); caps != "" {
		var bits uint64
		_, _ = fmt.Sscanf(caps, "%x", &bits)
		for _, c := range []struct {
			bit  int
			name string
		}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_MKNOD, "CAP_MKNOD"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}} {
			if bits&(1<<c.bit) == 0 {
				list = append(list, fail("root", "this root has no "+c.name+", as in a container", "run the outer container with --privileged"))
			}
		}
	}
	if len(list) == 0 {
		list = append(list, ok("root", "root with the capabilities that kist needs"))
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text := file + " is there"
		if _, err := os.Stat(file); err != nil {
			text = "there is no " + file
		}
		list = append(list, ok(filepath.Base(file), text+"; kist as root needs no ranges from it"))
	}
	return list
}

// line2 is what follows a key at the beginning of a line.
func line2(name, key string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	for l := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(l, key); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
