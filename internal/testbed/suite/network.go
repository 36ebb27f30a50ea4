package suite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// inside is set in the environment of the copy of the test program that runs in a network namespace of its own.
const inside = "KIST_TEST_INSIDE"

// InNetwork is a TestMain. It runs a package's tests in a network namespace that is the host of all of them: the machine's own
// network is never touched. No goroutine may be left.
func InNetwork(m *testing.M) {
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		goleak.VerifyTestMain(m)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		os.Exit(m.Run()) // root without the capability: the tests that need it skip
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "run tests in a network namespace:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// NeedNetwork skips a test that has no network namespace of its own.
func NeedNetwork(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("skip: network namespaces cannot be made: not root")
	}
}
