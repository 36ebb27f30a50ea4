package keeper

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// input is the keeper's end of a process's standard input: a pipe, or the terminal's master. Its os.File, which waits
// through Go's poller, is made when something is written first.
type input struct {
	mu     sync.Mutex // guards all below
	fd     int        // -1 when there is none, or it is closed
	file   *os.File
	closed bool
}

// write gives bytes to the process, and waits while it does not take them.
func (in *input) write(b []byte) error {
	f, err := in.open()
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return err
}

func (in *input) open() (*os.File, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed || in.fd < 0 {
		return nil, os.ErrClosed
	}
	if in.file == nil {
		fd, err := unix.FcntlInt(uintptr(in.fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, err
		}
		in.file = os.NewFile(uintptr(fd), "stdin")
	}
	return in.file, nil
}

// close ends the process's input and any write under way. owned says whether the descriptor is the input's own, and not
// the terminal's. It reports whether it was open.
func (in *input) close(owned bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed || in.fd < 0 {
		return false
	}
	in.closed = true
	if in.file != nil {
		in.file.Close()
		in.file = nil
	}
	if owned {
		unix.Close(in.fd)
	}
	in.fd = -1
	return true
}

// dup returns a duplicate of the pipe, or -1.
func (in *input) dup() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return dup(in.fd)
}

// writable says whether attachments may write.
func (in *input) writable() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.fd >= 0
}
