package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/task"
)

// listener is the keeper's socket, and the lock that no second keeper can take while this one lives.
type listener struct {
	file   *os.File
	raw    syscall.RawConn
	lock   *os.File
	once   sync.Once
	closed atomic.Bool
}

// inherit takes over the lock and the listening socket from the client that started this process. A keeper that was
// started by hand makes its own.
func inherit(dir string) (*listener, error) {
	l := &listener{}
	fd := task.InheritedSocket
	if os.Getenv(task.InheritEnv) == "" {
		lock, sock, err := task.Listen(dir)
		if err != nil {
			return nil, err
		}
		l.lock, fd = lock, sock
	} else {
		os.Unsetenv(task.InheritEnv)
		unix.CloseOnExec(task.InheritedLock)
		unix.CloseOnExec(task.InheritedSocket)
		l.lock = os.NewFile(task.InheritedLock, filepath.Join(dir, task.LockName))
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("keeper: listen: %w", err)
	}
	l.file = os.NewFile(uintptr(fd), "listener")
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("keeper: listen: %w", err)
	}
	l.raw = raw
	return l, nil
}

// accept returns the next connection, or os.ErrClosed.
func (l *listener) accept() (int, error) {
	var conn int
	var err error
	rerr := l.raw.Read(func(fd uintptr) bool {
		for {
			conn, _, err = unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if rerr != nil {
		if l.closed.Load() {
			return -1, os.ErrClosed
		}
		return -1, rerr
	}
	return conn, err
}

// close stops listening. The lock goes last, so that a successor finds the socket free.
func (l *listener) close() {
	l.once.Do(func() {
		l.closed.Store(true)
		l.file.Close()
		l.lock.Close()
	})
}
