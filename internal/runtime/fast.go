//go:build (amd64 || arm64) && !race

package runtime

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// haveFast says that this build has the fast executor. The race detector cannot follow a process that shares memory.
const haveFast = true

//go:noescape
func vfork(mem, ops uintptr) (pid int)

// runFast runs a program's child section in a new process that shares this one's memory until its execve. It returns
// after that, or when the child has ended.
func runFast(im *image, _ []slot) (pid int, err error) {
	le := binary.LittleEndian
	a := im.mem[headClone:]
	flags := im.prog.flags
	le.PutUint64(a, flags)
	le.PutUint64(a[8:], uint64(im.base)+headPIDFD)
	le.PutUint64(a[24:], uint64(im.base)+headTID)
	le.PutUint64(a[32:], uint64(unix.SIGCHLD))
	if flags&unix.CLONE_INTO_CGROUP != 0 {
		le.PutUint64(a[80:], im.word(im.prog.cgroup))
	}
	n := vfork(im.base, im.base+uintptr(im.child))
	if n < 0 {
		return 0, os.NewSyscallError("clone3", unix.Errno(-n))
	}
	return n, nil
}
