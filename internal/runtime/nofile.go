package runtime

import (
	"fmt"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// nofile is the soft limit of open files that this process was started with.
type nofile struct {
	once sync.Once
	soft uint64
}

// fallbackNofile is what most systems start processes with.
const fallbackNofile = 1024

// original finds the limit out. Go raises it to the hard one before main, and puts it back only where it executes another
// program itself: so that is done once, and the child is looked at before it runs.
func (n *nofile) original() uint64 {
	n.once.Do(func() {
		n.soft = fallbackNofile
		if v, err := childLimit(); err == nil {
			n.soft = v
		}
	})
	return n.soft
}

func childLimit() (uint64, error) {
	// The tracer of a process is a thread.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{childName, childPause}, &syscall.ProcAttr{
		Files: []uintptr{}, Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("start a child: %w", err)
	}
	reap(pid) // stopped at its execve
	all := lines(fmt.Sprintf("/proc/%d/limits", pid))
	_ = unix.Kill(pid, unix.SIGKILL)
	reap(pid)
	for _, l := range all {
		if v, ok := strings.CutPrefix(l, "Max open files"); ok {
			soft, _, _ := strings.Cut(strings.TrimSpace(v), " ")
			return strconv.ParseUint(soft, 10, 64)
		}
	}
	return 0, fmt.Errorf("no limit of open files in /proc/%d/limits", pid)
}

// reap waits for a child to stop or to end.
func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
