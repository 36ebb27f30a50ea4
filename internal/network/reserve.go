package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// reservations are the host's ports that containers have. Each is held by a bound socket, so that no program of the host
// takes it and the kernel tells who came first. The sockets receive nothing: what reaches one would have been sent to
// the container, had somebody not taken the rules away for a moment, and is sent again.
type reservations struct {
	mu   sync.Mutex // guards held
	held map[protoPort][]holding
}

type protoPort struct {
	proto network.IPProtocol
	port  uint16
}

// holding is one address's port in the hands of a container.
type holding struct {
	addr  netip.Addr
	owner string
}

func (r *reservations) hold(hp hostPort, owner string) {
	if r.held == nil {
		r.held = map[protoPort][]holding{}
	}
	k := protoPort{hp.proto, hp.port}
	r.held[k] = append(r.held[k], holding{hp.addr, owner})
}

func (r *reservations) drop(hp hostPort) {
	k := protoPort{hp.proto, hp.port}
	r.held[k] = slices.DeleteFunc(r.held[k], func(h holding) bool { return h.addr == hp.addr })
	if len(r.held[k]) == 0 {
		delete(r.held, k)
	}
}

// reservation is the socket's descriptor, or noSocket.
type reservation int

const noSocket reservation = -1

func (r reservation) close() {
	if r != noSocket {
		_ = unix.Close(int(r))
	}
}

// reserve makes the wish come true for the container called owner.
func (r *reservations) reserve(w wish, owner string) (published, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.from == 0 {
		return r.ephemeral(w, owner)
	}
	var first error
	for n := int(w.from); n <= int(w.to); n++ {
		hp := hostPort{w.addr, w.port.Proto(), uint16(n)}
		sock, err := r.take(hp)
		if err == nil {
			r.hold(hp, owner)
			return published{w.port, hp, sock}, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return published{}, r.explain(w, first)
}

// take reserves one port, or returns EADDRINUSE.
func (r *reservations) take(hp hostPort) (reservation, error) {
	if _, taken := r.heldBy(hp); taken {
		return noSocket, unix.EADDRINUSE
	}
	sock, _, err := bindSocket(hp)
	return sock, err
}

// heldBy finds the container of ours that a port would collide with.
func (r *reservations) heldBy(hp hostPort) (string, bool) {
	for _, h := range r.held[protoPort{hp.proto, hp.port}] {
		if h.addr == hp.addr || h.addr.IsUnspecified() || hp.addr.IsUnspecified() {
			return h.owner, true
		}
	}
	return "", false
}

// ephemeral takes a port that the kernel chooses: like docker's, from ip_local_port_range.
func (r *reservations) ephemeral(w wish, owner string) (published, error) {
	hp := hostPort{addr: w.addr, proto: w.port.Proto()}
	for range 64 {
		sock, port, err := bindSocket(hp)
		if err != nil {
			return published{}, r.explain(w, err)
		}
		if sock == noSocket { // a protocol that the kernel has no sockets for
			return r.unbacked(w, owner)
		}
		hp := hostPort{w.addr, w.port.Proto(), port}
		if _, taken := r.heldBy(hp); !taken {
			r.hold(hp, owner)
			return published{w.port, hp, sock}, nil
		}
		sock.close()
	}
	return published{}, r.explain(w, unix.EADDRINUSE)
}

// unbacked chooses a port by memory alone.
func (r *reservations) unbacked(w wish, owner string) (published, error) {
	from, to := localPortRange()
	for n := from; n <= to; n++ {
		hp := hostPort{w.addr, w.port.Proto(), uint16(n)}
		if _, taken := r.heldBy(hp); !taken {
			r.hold(hp, owner)
			return published{w.port, hp, noSocket}, nil
		}
	}
	return published{}, r.explain(w, unix.EADDRINUSE)
}

// release gives ports back.
func (r *reservations) release(list []published) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range list {
		r.drop(p.host)
		p.sock.close()
	}
}

// restore takes a port that a running container has already. That a program grabbed it while no daemon held it changes
// nothing: connections still go to the container.
func (r *reservations) restore(port network.Port, hp hostPort, owner string) published {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold(hp, owner)
	sock, _, err := bindSocket(hp)
	if err != nil {
		sock = noSocket
	}
	return published{port, hp, sock}
}

// localPortRange is where the kernel takes ephemeral ports from; docker's own range where that cannot be read.
func localPortRange() (from, to int) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		if n, _ := fmt.Sscan(string(b), &from, &to); n == 2 && 0 < from && from <= to && to < 1<<16 {
			return from, to
		}
	}
	return 49153, 65535
}

// dropAll is a packet filter that takes nothing: "return 0".
var dropAll = unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}

// bindSocket binds a socket to the port, or to any if it is 0, and says to which.
func bindSocket(hp hostPort) (reservation, uint16, error) {
	kind, proto := unix.SOCK_STREAM, unix.IPPROTO_TCP
	switch hp.proto {
	case network.UDP:
		kind, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case network.SCTP:
		proto = unix.IPPROTO_SCTP
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return noSocket, hp.port, nil
	}
	if err != nil {
		return noSocket, 0, fmt.Errorf("open socket: %w", err)
	}
	port, err := bindTo(fd, hp)
	if err != nil {
		unix.Close(fd)
		return noSocket, 0, err
	}
	return reservation(fd), port, nil
}

func bindTo(fd int, hp hostPort) (uint16, error) {
	program := unix.SockFprog{Len: 1, Filter: &dropAll}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return 0, fmt.Errorf("filter socket: %w", err)
	}
	if hp.proto == network.TCP {
		// Connections of a server that had the port before may still be in TIME_WAIT. Two who listen collide even so.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return 0, fmt.Errorf("prepare socket: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: hp.addr.As4(), Port: int(hp.port)}); err != nil {
		return 0, err
	}
	if hp.proto != network.UDP {
		if err := unix.Listen(fd, 1); err != nil {
			return 0, err
		}
	}
	if hp.port != 0 {
		return hp.port, nil
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("name of socket: %w", err)
	}
	in, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("name of socket: %T", sa)
	}
	return uint16(in.Port), nil
}

// explain turns why the wish cannot be had into what a person can act on.
func (r *reservations) explain(w wish, err error) error {
	f := &fault.Error{What: fmt.Sprintf("cannot publish port %s on %s", w.port, hostText(w)), Err: err}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		f.Code, f.Class = "port-in-use", errdefs.ErrConflict
		f.Cause, f.Try = r.holder(w)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		f.Code, f.Class = "address-not-here", errdefs.ErrInvalidArgument
		f.Cause = "no interface of this host has the address " + w.addr.String()
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		f.Code, f.Class = "too-many-files", errdefs.ErrResourceExhausted
		f.Cause = "the daemon may not open more files, and holds one for each port"
	default:
		return fmt.Errorf("%s: %w", f.What, err)
	}
	return f
}

func hostText(w wish) string {
	switch w.from {
	case 0:
		return w.addr.String()
	case w.to:
		return netip.AddrPortFrom(w.addr, w.from).String()
	}
	return fmt.Sprintf("%s:%d-%d", w.addr, w.from, w.to)
}
