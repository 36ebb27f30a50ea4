package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// rtnl is a route netlink socket that sends several requests in one system call and reads one acknowledgement. The
// kernel works them off in order inside the send, so what the socket costs is what the kernel does.
type rtnl struct {
	fd int

	mu  sync.Mutex // guards what follows, and keeps requests and answers together
	seq uint32
	buf []byte
	ack [8192]byte
}

// dialRtnl opens a socket in the network namespace of the calling thread.
func dialRtnl() (*rtnl, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route netlink: %w", err)
	}
	// Without the request repeated in it, an error is 36 bytes.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &rtnl{fd: fd}, nil
}

func (r *rtnl) close() { _ = unix.Close(r.fd) }

// do sends the messages as one batch. The first that the kernel refuses is the error; those after it were still tried.
func (r *rtnl) do(msgs ...*message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = r.buf[:0]
	first := r.seq + 1
	for i, m := range msgs {
		r.seq++
		// A refusal is always answered; that all went well needs to be said only once, at the end.
		if i == len(msgs)-1 {
			m.flags(unix.NLM_F_ACK)
		}
		r.buf = append(r.buf, m.finish(r.seq)...)
	}
	if err := retry(func() error { return unix.Sendto(r.fd, r.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return fmt.Errorf("send to route netlink: %w", err)
	}
	return r.answer(first, msgs)
}

// answer reads until the last message was answered.
func (r *rtnl) answer(first uint32, msgs []*message) error {
	var failed error
	for {
		var n int
		err := retry(func() (err error) { n, _, err = unix.Recvfrom(r.fd, r.ack[:], 0); return err })
		if err != nil {
			return fmt.Errorf("read from route netlink: %w", err)
		}
		for b := r.ack[:n]; len(b) >= unix.NLMSG_HDRLEN+4; {
			size := int(binary.NativeEndian.Uint32(b))
			kind, seq := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return fmt.Errorf("read from route netlink: message of %d bytes in %d", size, len(b))
			}
			i := int(seq - first) // an answer to an earlier batch becomes huge
			if kind == unix.NLMSG_ERROR && i >= 0 && i < len(msgs) {
				errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])))
				if errno != 0 && failed == nil {
					failed = fmt.Errorf("%s: %w", msgs[i].what, errno)
				}
				if i == len(msgs)-1 {
					return failed
				}
			}
			b = b[min(align4(size), len(b)):]
		}
	}
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func align4(n int) int { return (n + 3) &^ 3 }
