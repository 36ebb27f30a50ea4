package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childVariable makes the test binary the process that is filtered.
const childVariable = "KIST_TEST_SECCOMP_CHILD"

// TestInstall loads docker's profile into the kernel and asks it for what the profile forbids and allows.
func TestInstall(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		child()
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInstall$")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "no seccomp") {
		t.Skip("this kernel has no seccomp filters")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func child() {
	runtime.LockOSThread()
	f, err := Compile(dockerProfile(&testing.B{}))
	if err != nil {
		fail(err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fail(err)
	}
	prog := unix.SockFprog{Len: uint16(len(f.Program)), Filter: &f.Program[0]}
	start := time.Now()
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), uintptr(unsafe.Pointer(&prog)))
	took := time.Since(start)
	if errno == unix.ENOSYS {
		fail(errors.New("no seccomp"))
	}
	if errno != 0 {
		fail(errno)
	}
	for _, c := range []struct {
		name string
		nr   uintptr
		args [3]uintptr
		want unix.Errno
	}{
		{"getpid", unix.SYS_GETPID, [3]uintptr{}, 0},
		{"unshare", unix.SYS_UNSHARE, [3]uintptr{unix.CLONE_NEWUTS}, unix.EPERM},
		{"keyctl", unix.SYS_KEYCTL, [3]uintptr{}, unix.EPERM},
		{"clone3", unix.SYS_CLONE3, [3]uintptr{}, unix.ENOSYS},
		{"newest", 900, [3]uintptr{}, unix.ENOSYS},
		{"personality", unix.SYS_PERSONALITY, [3]uintptr{0xffffffff}, 0},
		{"personality of old", unix.SYS_PERSONALITY, [3]uintptr{0x40000}, unix.EPERM},
		{"socket vsock", unix.SYS_SOCKET, [3]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
		{"socket unix", unix.SYS_SOCKET, [3]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}, 0},
	} {
		if _, _, errno := unix.RawSyscall(c.nr, c.args[0], c.args[1], c.args[2]); errno != c.want {
			fail(fmt.Errorf("%s: %w, want %d", c.name, errno, int(c.want)))
		}
	}
	fmt.Println("installed in", took)
	os.Exit(0)
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}
