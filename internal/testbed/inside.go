package testbed

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Inside runs fn on a thread of its own inside the host's namespaces: processes that fn starts belong to the host, without
// another program in between that would be measured as well. The thread ends with fn.
func (h *Host) Inside(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread is not fit for anything else afterwards.
		if err := h.enter(); err != nil {
			done <- fmt.Errorf("enter the host: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

func (h *Host) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, ns := range []string{"pid", "net", "uts", "mnt"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", h.PID(), ns))
		if err != nil {
			return err
		}
		err = unix.Setns(int(f.Fd()), 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("setns %s: %w", ns, err)
		}
	}
	return nil
}
