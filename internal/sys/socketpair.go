package sys

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// SocketPair makes two stream sockets that are connected with each other: near for this process, far to be given away
// (socketpair(2)). The caller closes both.
func SocketPair() (near net.Conn, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "near")
	near, err = net.FileConn(ours)
	_ = ours.Close() // near is a duplicate.
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("socket pair: %w", err), unix.Close(fds[1]))
	}
	return near, os.NewFile(uintptr(fds[1]), "far"), nil
}
