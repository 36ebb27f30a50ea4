package front

import (
	"syscall"
	"time"
	"unsafe"
)

// pollfd is the kernel's struct pollfd.
type pollfd struct {
	fd      int32
	events  int16
	revents int16
}

const (
	pollIn  = 1
	pollOut = 4
)

// wait waits until descriptors (those that are not negative) can be read, and says which. The error is syscall.EAGAIN at the
// deadline, if there is one.
func wait(fds [2]int, deadline time.Time) (ready [2]bool, err error) {
	polled := [2]pollfd{{fd: int32(fds[0]), events: pollIn}, {fd: int32(fds[1]), events: pollIn}}
	for {
		var limit *syscall.Timespec
		if !deadline.IsZero() {
			ts := syscall.NsecToTimespec(max(0, int64(time.Until(deadline))))
			limit = &ts
		}
		n, errno := poll(polled[:], limit)
		switch {
		case errno == syscall.EINTR:
		case errno != 0:
			return ready, errno
		case n == 0:
			return ready, syscall.EAGAIN
		default:
			return [2]bool{polled[0].revents != 0, polled[1].revents != 0}, nil
		}
	}
}

func poll(fds []pollfd, limit *syscall.Timespec) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(limit)), 0, 0, 0)
	return int(n), errno
}

// put writes to a descriptor that may be somebody else's, and not block. Whoever no longer reads ends this command, as a
// signal would.
func put(fd int, b []byte) {
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		switch err {
		case nil:
			b = b[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			_, _ = poll([]pollfd{{fd: int32(fd), events: pollOut}}, nil)
		case syscall.EPIPE:
			syscall.Exit(128 + int(syscall.SIGPIPE))
		default:
			return
		}
	}
}

// coloured says that standard error is a terminal for colours.
func coloured() bool {
	if v, ok := syscall.Getenv("NO_COLOR"); ok && v != "" {
		return false
	}
	if v, _ := syscall.Getenv("TERM"); v == "dumb" {
		return false
	}
	var termios [64]byte
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 2, syscall.TCGETS, uintptr(unsafe.Pointer(&termios)))
	return errno == 0
}
