package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// currentNS opens the network namespace of the calling thread.
func currentNS() (*os.File, error) {
	// os.OpenFile would try to add the descriptor to the poller: a system call for nothing.
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return os.NewFile(uintptr(fd), "network namespace"), nil
}

// away runs fn on a thread that enter has taken to another network namespace, and brings the thread back to host. A
// thread that cannot be brought back is not used again: it stays locked and ends with its goroutine, hence the goroutine.
func away(host *os.File, enter, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := enter(); err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err := fn()
		if back := unix.Setns(int(host.Fd()), unix.CLONE_NEWNET); back != nil {
			done <- errors.Join(err, fmt.Errorf("return to the host's network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// inNewNS makes a network namespace, runs fn inside and returns it.
func inNewNS(host *os.File, fn func() error) (*os.File, error) {
	var ns *os.File
	enter := func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		return nil
	}
	err := away(host, enter, func() (err error) {
		if ns, err = currentNS(); err != nil {
			return err
		}
		return fn()
	})
	if err != nil && ns != nil {
		ns.Close()
		ns = nil
	}
	return ns, err
}

// inNS runs fn in the namespace.
func inNS(host, ns *os.File, fn func() error) error {
	return away(host, func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return nil
	}, fn)
}

// defaultSysctls are what docker sets in every container with a network of its own: any port may be bound and any group
// may send pings, as there is nobody else in the namespace to protect.
var defaultSysctls = map[string]string{
	"net.ipv4.ip_unprivileged_port_start": "0",
	"net.ipv4.ping_group_range":           "0 2147483647",
}

// setSysctls writes the net.* ones of values; the calling thread must be in the namespace.
func setSysctls(values map[string]string) error {
	for key, value := range values {
		if !strings.HasPrefix(key, "net.") {
			continue
		}
		path := sysctlPath(key)
		if path != filepath.Clean(path) {
			return fmt.Errorf("invalid sysctl %q: %w", key, errdefs.ErrInvalidArgument)
		}
		if err := writeSysctl(filepath.Join("/proc/sys", path), value); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("sysctl %q: a network namespace has none of that name: %w", key, errdefs.ErrInvalidArgument)
			}
			if errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("sysctl %q: the kernel refuses %q: %w", key, value, errdefs.ErrInvalidArgument)
			}
			return fmt.Errorf("set sysctl %q: %w", key, err)
		}
	}
	return nil
}

// sysctlPath turns net.ipv4.conf.eth0/1.rp_filter into net/ipv4/conf/eth0.1/rp_filter, as sysctl(8) does.
func sysctlPath(key string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

func writeSysctl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}
