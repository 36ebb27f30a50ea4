package runtime

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// callNames are the system calls that programs are made of.
var callNames = map[int]string{
	unix.SYS_CAPSET: "capset", unix.SYS_CHDIR: "chdir", unix.SYS_CHROOT: "chroot", unix.SYS_CLOSE: "close",
	unix.SYS_CLOSE_RANGE: "close_range", unix.SYS_DUP3: "dup3", unix.SYS_EXECVE: "execve", unix.SYS_FACCESSAT2: "faccessat2",
	unix.SYS_FCHDIR: "fchdir", unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FCHOWN: "fchown", unix.SYS_FCHOWNAT: "fchownat",
	unix.SYS_FSCONFIG: "fsconfig", unix.SYS_FSMOUNT: "fsmount", unix.SYS_FSOPEN: "fsopen", unix.SYS_FSTATFS: "fstatfs",
	unix.SYS_GETCWD: "getcwd", unix.SYS_IOCTL: "ioctl", unix.SYS_IOPRIO_SET: "ioprio_set", unix.SYS_KEYCTL: "keyctl",
	unix.SYS_MKDIRAT: "mkdirat", unix.SYS_MKNODAT: "mknodat", unix.SYS_MOUNT: "mount", unix.SYS_MOUNT_SETATTR: "mount_setattr",
	unix.SYS_MOVE_MOUNT: "move_mount", unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_OPEN_TREE: "open_tree",
	unix.SYS_PERSONALITY: "personality", unix.SYS_PIVOT_ROOT: "pivot_root", unix.SYS_PRCTL: "prctl",
	unix.SYS_PRLIMIT64: "prlimit64", unix.SYS_READ: "read", unix.SYS_RT_SIGACTION: "rt_sigaction",
	unix.SYS_RT_SIGPROCMASK: "rt_sigprocmask", unix.SYS_SCHED_SETAFFINITY: "sched_setaffinity",
	unix.SYS_SCHED_SETATTR: "sched_setattr", unix.SYS_SECCOMP: "seccomp", unix.SYS_SENDMSG: "sendmsg",
	unix.SYS_SETDOMAINNAME: "setdomainname", unix.SYS_SETGROUPS: "setgroups", unix.SYS_SETHOSTNAME: "sethostname",
	unix.SYS_SETNS: "setns", unix.SYS_SETRESGID: "setresgid", unix.SYS_SETRESUID: "setresuid", unix.SYS_SETSID: "setsid",
	unix.SYS_SOCKET: "socket", unix.SYS_STATX: "statx", unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_UMASK: "umask",
	unix.SYS_UMOUNT2: "umount2", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_UNSHARE: "unshare", unix.SYS_WRITE: "write",
}

func callName(nr int) string {
	if n, ok := callNames[nr]; ok {
		return n
	}
	return "syscall" + strconv.Itoa(nr)
}

func errnoName(e int32) string {
	if e == anyErrno {
		return "error"
	}
	if n := unix.ErrnoName(unix.Errno(e)); n != "" {
		return n
	}
	return strconv.Itoa(int(e))
}
