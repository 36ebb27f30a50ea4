package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Address is where a container's name server is, for its resolv.conf.
var Address = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Sockets are a container's two listening sockets. While anybody has them open, the namespace they are in lives.
type Sockets struct{ UDP, TCP int }

// backlog of connections that have not been accepted, and bytes of questions that have not been read. Both wait in the
// kernel while no server runs.
const (
	backlog = 64
	receive = 1 << 20
)

// Listen opens the sockets in the network namespace of the calling thread, whose loopback need not be up yet.
func Listen() (Sockets, error) { return listen(port) }

// ListenAside is Listen on other ports, for a namespace whose programs want port 53 for themselves. Ports tells them:
// somebody must send there what is meant for port 53.
func ListenAside() (Sockets, error) { return listen(0) }

// Ports are those that the sockets listen on.
func (s Sockets) Ports() (udp, tcp uint16, err error) {
	for _, one := range []struct {
		fd   int
		port *uint16
	}{{s.UDP, &udp}, {s.TCP, &tcp}} {
		sa, err := unix.Getsockname(one.fd)
		if err != nil {
			return 0, 0, fmt.Errorf("port of a name server: %w", err)
		}
		if at, ok := sa.(*unix.SockaddrInet4); ok {
			*one.port = uint16(at.Port)
		}
	}
	return udp, tcp, nil
}

func listen(port int) (Sockets, error) {
	s := Sockets{-1, -1}
	var err error
	if s.UDP, err = bound(unix.SOCK_DGRAM, port); err == nil {
		// More than the host's limit for everybody, which is meant for what fills up by itself.
		_ = unix.SetsockoptInt(s.UDP, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receive)
		s.TCP, err = bound(unix.SOCK_STREAM, port)
	}
	if err == nil {
		err = unix.Listen(s.TCP, backlog)
	}
	if err != nil {
		s.Close()
		return Sockets{-1, -1}, fmt.Errorf("listen for name lookups: %w", err)
	}
	return s, nil
}

func bound(kind, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	// A name server in the container may have port 53 of all addresses if it shares, too.
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: Address.As4()}),
	)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Open says whether there are any.
func (s Sockets) Open() bool { return s.UDP > 0 && s.TCP > 0 }

// Close closes them; those that are not there are left alone.
func (s Sockets) Close() {
	for _, fd := range []int{s.UDP, s.TCP} {
		if fd > 0 {
			unix.Close(fd)
		}
	}
}

// Dup returns copies, which are the caller's.
func (s Sockets) Dup() (Sockets, error) {
	c := Sockets{-1, -1}
	var err error
	if c.UDP, err = unix.FcntlInt(uintptr(s.UDP), unix.F_DUPFD_CLOEXEC, 3); err == nil {
		c.TCP, err = unix.FcntlInt(uintptr(s.TCP), unix.F_DUPFD_CLOEXEC, 3)
	}
	if err != nil {
		c.Close()
		return Sockets{-1, -1}, fmt.Errorf("copy sockets: %w", err)
	}
	return c, nil
}

// dial connects from within the container's network namespace: to resolvers of its own, which may be in it.
func (c *client) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	ns, err := c.namespace()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	type outcome struct {
		conn net.Conn
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		// A thread that cannot be brought back stays locked and ends with this goroutine.
		runtime.LockOSThread()
		back, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(back)
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			runtime.UnlockOSThread()
			done <- outcome{nil, fmt.Errorf("enter the container's network: %w", err)}
			return
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, to.String())
		if unix.Setns(back, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- outcome{conn, err}
	}()
	o := <-done
	return o.conn, o.err
}

// namespace opens the network namespace that the container's sockets are in.
func (c *client) namespace() (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	fd, err := unix.IoctlRetInt(c.sockets.UDP, unix.SIOCGSKNS)
	if err != nil {
		return nil, fmt.Errorf("find the container's network: %w", err)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "network namespace"), nil
}
