package testbed

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hostRole makes a test binary play a host's first process instead of running tests.
const hostRole = "KIST_TESTBED_HOST"

// Main is called first in TestMain: it plays the roles that the testbed re-executes the test binary for.
func Main() {
	if os.Getenv(machineScript) != "" && os.Getpid() == 1 {
		machineMain()
	}
	if os.Getenv(hostRole) == "" {
		return
	}
	if err := hostMain(); err != nil {
		fmt.Fprintln(os.Stderr, "testbed host:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// hostMain is the first process of a host: it mounts what belongs to its namespaces, reaps orphans, and ends when its
// standard input does, which ends everything in its pid namespace.
func hostMain() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go reap()
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func reap() {
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil {
			time.Sleep(20 * time.Millisecond) // No child at present.
		}
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
