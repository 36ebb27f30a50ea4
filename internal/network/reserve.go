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
	"github.com/kistdev/kist/internal/network/firewall"
)

// reservations are the host's ports that containers have. Each is held by a bound socket, so that no program of the host
// takes it and the kernel tells who came first. The sockets receive nothing: what reaches one would have been sent to
// the container, had somebody not taken the rules away for a moment, and is sent again. Many ports in a row are held by
// no sockets: thousands would take as long as a hundred containers.
type reservations struct {
	mu   sync.Mutex // guards held
	held []holding
}

// holding is ports in the hands of a container.
type holding struct {
	ports firewall.Ports
	owner string
}

func (r *reservations) hold(p firewall.Ports, owner string) {
	r.held = append(r.held, holding{p, owner})
}

func (r *reservations) drop(p firewall.Ports) {
	r.held = slices.DeleteFunc(r.held, func(h holding) bool { return h.ports == p })
}

// reservation is the socket's descriptor, or noSocket.
type reservation int

const noSocket reservation = -1

func (r reservation) close() {
	if r != noSocket {
		_ = unix.Close(int(r))
	}
}

// reserve makes the wish come true for the container called owner, on each of its addresses.
func (r *reservations) reserve(w wish, owner string) ([]published, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.more > 0 {
		return r.reserveMany(w, owner)
	}
	if w.from == 0 {
		return r.ephemeral(w, owner)
	}
	var first error
	for n := int(w.from); n <= int(w.to); n++ {
		list, err := r.takeAll(w, uint16(n), owner)
		if err == nil {
			return list, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, r.explain(w, first)
}

// takeAll takes the port on each of the wish's addresses, or on none.
func (r *reservations) takeAll(w wish, port uint16, owner string) (list []published, err error) {
	for _, a := range w.addrs {
		p := firewall.One(a, w.port.Proto(), port)
		sock, err := r.take(p)
		if err != nil {
			r.releaseLocked(list)
			return nil, refusal{p, err}
		}
		r.hold(p, owner)
		list = append(list, published{w.port, p, sock})
	}
	return list, nil
}

// refusal is why one address of a wish cannot be had.
type refusal struct {
	ports firewall.Ports
	error
}

func (r refusal) Unwrap() error { return r.error }

// reserveMany takes ports in a row, if none of them is in use.
func (r *reservations) reserveMany(w wish, owner string) (list []published, err error) {
	for _, a := range w.addrs {
		p := firewall.Ports{Addr: a, Proto: w.port.Proto(), From: w.from, To: w.from + w.more}
		if r.holds(p) != nil || len(socketsOn(p)) > 0 {
			r.releaseLocked(list)
			return nil, r.explain(w, refusal{p, unix.EADDRINUSE})
		}
		r.hold(p, owner)
		list = append(list, published{w.port, p, noSocket})
	}
	return list, nil
}

// take reserves one port, or returns EADDRINUSE.
func (r *reservations) take(p firewall.Ports) (reservation, error) {
	if r.holds(p) != nil {
		return noSocket, unix.EADDRINUSE
	}
	sock, _, err := bindSocket(p)
	return sock, err
}

// holds finds what a container of ours has that ports would collide with; nil if there is nothing.
func (r *reservations) holds(p firewall.Ports) *holding {
	for i := range r.held {
		if h := &r.held[i]; h.ports.Proto == p.Proto && h.ports.From <= p.To && p.From <= h.ports.To && meet(h.ports.Addr, p.Addr) {
			return h
		}
	}
	return nil
}

// meet says whether a packet can be for both addresses.
func meet(a, b netip.Addr) bool {
	return a == b || a.Is6() == b.Is6() && (a.IsUnspecified() || b.IsUnspecified())
}

// ephemeral takes a port that the kernel chooses: like docker's, from ip_local_port_range.
func (r *reservations) ephemeral(w wish, owner string) ([]published, error) {
	for range 64 {
		sock, port, err := bindSocket(firewall.One(w.addrs[0], w.port.Proto(), 0))
		if err != nil {
			return nil, r.explain(w, refusal{firewall.One(w.addrs[0], w.port.Proto(), 0), err})
		}
		if sock == noSocket { // a protocol that the kernel has no sockets for
			return r.unbacked(w, owner)
		}
		sock.close() // taken again in a moment, on all addresses
		if list, err := r.takeAll(w, port, owner); err == nil {
			return list, nil
		}
	}
	return nil, r.explain(w, refusal{firewall.One(w.addrs[0], w.port.Proto(), 0), unix.EADDRINUSE})
}

// unbacked chooses a port by memory alone.
func (r *reservations) unbacked(w wish, owner string) ([]published, error) {
	from, to := localPortRange()
	for n := from; n <= to; n++ {
		if list, err := r.takeAll(w, uint16(n), owner); err == nil {
			return list, nil
		}
	}
	return nil, r.explain(w, refusal{firewall.One(w.addrs[0], w.port.Proto(), 0), unix.EADDRINUSE})
}

// release gives ports back.
func (r *reservations) release(list []published) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked(list)
}

func (r *reservations) releaseLocked(list []published) {
	for _, p := range list {
		r.drop(p.host)
		p.sock.close()
	}
}

// restore takes ports that a running container has already. That a program grabbed one while no daemon held it changes
// nothing: connections still go to the container.
func (r *reservations) restore(w wish, owner string) []published {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []published
	for _, a := range w.addrs {
		p := firewall.Ports{Addr: a, Proto: w.port.Proto(), From: w.from, To: w.from + w.more}
		sock := noSocket
		if w.more == 0 {
			var err error
			if sock, _, err = bindSocket(p); err != nil {
				sock = noSocket
			}
		}
		r.hold(p, owner)
		list = append(list, published{w.port, p, sock})
	}
	return list
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
func bindSocket(p firewall.Ports) (reservation, uint16, error) {
	kind, proto := unix.SOCK_STREAM, unix.IPPROTO_TCP
	switch p.Proto {
	case network.UDP:
		kind, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case network.SCTP:
		proto = unix.IPPROTO_SCTP
	}
	family := unix.AF_INET
	if p.Addr.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return noSocket, p.From, nil
	}
	if err != nil {
		return noSocket, 0, fmt.Errorf("open socket: %w", err)
	}
	port, err := bindTo(fd, p)
	if err != nil {
		unix.Close(fd)
		return noSocket, 0, err
	}
	return reservation(fd), port, nil
}

func bindTo(fd int, p firewall.Ports) (uint16, error) {
	program := unix.SockFprog{Len: 1, Filter: &dropAll}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return 0, fmt.Errorf("filter socket: %w", err)
	}
	if p.Proto == network.TCP {
		// Connections of a server that had the port before may still be in TIME_WAIT. Two who listen collide even so.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return 0, fmt.Errorf("prepare socket: %w", err)
		}
	}
	if err := bindAddress(fd, p); err != nil {
		return 0, err
	}
	if p.Proto != network.UDP {
		if err := unix.Listen(fd, 1); err != nil {
			return 0, err
		}
	}
	if p.From != 0 {
		return p.From, nil
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("name of socket: %w", err)
	}
	switch in := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(in.Port), nil
	case *unix.SockaddrInet6:
		return uint16(in.Port), nil
	}
	return 0, fmt.Errorf("name of socket: %T", sa)
}

func bindAddress(fd int, p firewall.Ports) error {
	if p.Addr.Is4() {
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: p.Addr.As4(), Port: int(p.From)})
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return fmt.Errorf("prepare socket: %w", err)
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: p.Addr.As16(), Port: int(p.From)})
}

// explain turns why the wish cannot be had into what a person can act on.
func (r *reservations) explain(w wish, err error) error {
	at := firewall.One(w.addrs[0], w.port.Proto(), w.from)
	if no := (refusal{}); errors.As(err, &no) {
		at.Addr = no.ports.Addr
	}
	f := &fault.Error{What: fmt.Sprintf("cannot publish port %s on %s", w.port, w.hostText(at.Addr)), Err: err}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		f.Code, f.Class = "port-in-use", errdefs.ErrConflict
		f.Cause, f.Try = r.holder(w, at)
		f.Words, f.What = f.What, f.What+": the port is in use"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		f.Code, f.Class = "address-not-here", errdefs.ErrInvalidArgument
		f.Cause, f.Try = "no interface of this host has the address "+at.Addr.String(), "an address that ip address shows, or none for all"
		f.What += ": this host has no such address"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		f.Code, f.Class = "too-many-files", errdefs.ErrResourceExhausted
		f.Cause, f.Try = "the daemon may not open more files, and holds one for each port", "LimitNOFILE=1048576 for the daemon; kist doctor"
		f.What += ": too many open files"
	default:
		return fmt.Errorf("%s: %w", f.What, err)
	}
	return f
}

func (w *wish) hostText(a netip.Addr) string {
	last := w.to
	if w.more > 0 {
		last = w.from + w.more
	}
	switch w.from {
	case 0:
		return a.String()
	case last:
		return netip.AddrPortFrom(a, w.from).String()
	}
	return fmt.Sprintf("%s-%d", netip.AddrPortFrom(a, w.from), last)
}
