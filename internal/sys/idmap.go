package sys

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// ShownAsRoots returns the tree below root as a mount, attached nowhere, in which what belongs to the user and group shows
// as root's; everybody else stays who they are, but root and they have changed places. Not every file system can do that.
func ShownAsRoots(root *Root, uid, gid int) (*Root, error) {
	space, err := swapped(uid, gid)
	if err != nil {
		return nil, fmt.Errorf("user namespace of a mount: %w", err)
	}
	defer space.Close()
	fd, err := unix.OpenTree(root.Fd(), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	f := os.NewFile(uintptr(fd), "tree")
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(space.Fd())})
	if err != nil {
		_ = f.Close()
		return nil, os.NewSyscallError("mount_setattr", err)
	}
	return NewRoot(f), nil
}

// swapped makes a user namespace in which an id and root's have changed places. A process that is stopped before its first
// instruction holds it until it is held here.
func swapped(uid, gid int) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		// Who traces is a thread, not a process. It ends with this goroutine, as it is never unlocked.
		runtime.LockOSThread()
		p, err := os.StartProcess("/proc/self/exe", []string{"idmap"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, UidMappings: swap(uid), GidMappings: swap(gid), Ptrace: true, Pdeathsig: unix.SIGKILL,
		}})
		if err != nil {
			done <- result{nil, err}
			return
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
		_ = p.Kill()
		_, _ = p.Wait() // how it has ended is known
		done <- result{f, err}
	}()
	r := <-done
	return r.f, r.err
}

// swap maps an id to root's, root's to it, and all others to themselves.
func swap(id int) []syscall.SysProcIDMap {
	if id <= 0 {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: math.MaxUint32}}
	}
	m := []syscall.SysProcIDMap{{ContainerID: id, HostID: 0, Size: 1}, {ContainerID: 0, HostID: id, Size: 1}}
	if id > 1 {
		m = append(m, syscall.SysProcIDMap{ContainerID: 1, HostID: 1, Size: id - 1})
	}
	return append(m, syscall.SysProcIDMap{ContainerID: id + 1, HostID: id + 1, Size: math.MaxUint32 - id - 1})
}
