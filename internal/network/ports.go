package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/network/firewall"
)

// wish is a port, or several one after the other, that a container wants to be reached on.
type wish struct {
	port     network.Port
	addrs    []netip.Addr // of the host; the unspecified ones for all. The same port is taken on each
	from, to uint16       // the first free port from here to there; 0 for any
	more     uint16       // how many ports follow, on the ports of the host that follow
}

// every is the address that stands for all of the host's, every6 for all IPv6 ones.
var every, every6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()

// CheckPorts refuses port bindings that no join could ever serve.
func CheckPorts(ports network.PortMap) error {
	_, err := wishes(&JoinRequest{Ports: ports}, paths{v4: true, v6: true})
	return err
}

// paths says by which families a container can be reached from the host, and on which address of the host its ports are
// published that name none.
type paths struct {
	v4, v6 bool
	host   netip.Addr
}

// paths of the container, as wired.
func (a *attachment) paths() paths {
	p := paths{v4: a.way4 != nil, v6: a.way6 != nil}
	if p.v4 {
		p.host = a.way4.lan.hostAddr
	}
	return p
}

// wishes evens out what was asked for, in the order of the container's ports. It is pure.
func wishes(r *JoinRequest, by paths) ([]wish, error) {
	var list []wish
	for port, bindings := range r.Ports {
		if !firewall.Knows(port.Proto()) {
			return nil, fmt.Errorf("invalid proto: %s: %w", port.Proto(), errdefs.ErrInvalidArgument)
		}
		if port.Num() == 0 {
			return nil, fmt.Errorf("invalid container port %s: %w", port, errdefs.ErrInvalidArgument)
		}
		for _, b := range bindings {
			w, err := wishOf(port, b, by)
			if err != nil {
				return nil, err
			}
			list = append(list, w)
		}
	}
	if r.PublishAll {
		for port := range r.Exposed {
			if firewall.Knows(port.Proto()) && port.Num() != 0 && len(r.Ports[port]) == 0 {
				list = append(list, wish{port: port, addrs: by.unnamed()})
			}
		}
	}
	return inOrder(list), nil
}

// inOrder sorts, and joins what goes together.
func inOrder(list []wish) []wish {
	slices.SortStableFunc(list, func(a, b wish) int {
		if c := strings.Compare(string(a.port.Proto()), string(b.port.Proto())); c != 0 {
			return c
		}
		if c := slices.CompareFunc(a.addrs, b.addrs, netip.Addr.Compare); c != 0 {
			return c
		}
		return cmp.Compare(a.port.Num(), b.port.Num())
	})
	return joined(list)
}

// unnamed are the addresses of a port that names none.
func (by paths) unnamed() []netip.Addr {
	switch {
	case by.host.IsValid():
		return []netip.Addr{by.host}
	case by.v4 && by.v6:
		return []netip.Addr{every, every6}
	case by.v6:
		return []netip.Addr{every6}
	}
	return []netip.Addr{every}
}

// fewest ports in a row are published as one: it costs as much as one, but holds no socket.
const fewest = 64

// joined makes one wish of many that are published on ports of the host in a row.
func joined(list []wish) []wish {
	var out []wish
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i].goesOn(&list[i+n], n) {
			n++
		}
		if n >= fewest {
			w := list[i]
			w.more = uint16(n - 1)
			out = append(out, w)
		} else {
			out = append(out, list[i:i+n]...)
		}
		i += n
	}
	return out
}

// goesOn says whether next is the nth port after w's, on the nth port of the host after w's.
func (w *wish) goesOn(next *wish, n int) bool {
	return int(next.port.Num()) == int(w.port.Num())+n && next.port.Proto() == w.port.Proto() &&
		w.from != 0 && w.from == w.to && next.from == next.to && int(next.from) == int(w.from)+n &&
		slices.Equal(next.addrs, w.addrs)
}

func wishOf(port network.Port, b network.PortBinding, by paths) (wish, error) {
	w := wish{port: port, addrs: []netip.Addr{b.HostIP.Unmap()}}
	switch a := w.addrs[0]; {
	case !a.IsValid():
		w.addrs = by.unnamed()
	case a.Is6() && !by.v6:
		return w, &fault.Error{
			Code: "ipv6-port", What: fmt.Sprintf("cannot publish port %s on [%s]", port, a),
			Cause: "the container has no IPv6 address that the host reaches", Try: "network create --ipv6", Class: errdefs.ErrInvalidArgument,
		}
	case a.Is4() && !by.v4:
		return w, &fault.Error{
			Code: "ipv4-port", What: fmt.Sprintf("cannot publish port %s on %s", port, a),
			Cause: "the container has no IPv4 address that the host reaches", Class: errdefs.ErrInvalidArgument,
		}
	}
	first, last, isRange := strings.Cut(b.HostPort, "-")
	if first == "" && !isRange {
		return w, nil
	}
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || to < from || from == 0 && to != 0 {
		return w, fmt.Errorf("invalid host port %q for container port %s: %w", b.HostPort, port, errdefs.ErrInvalidArgument)
	}
	w.from, w.to = uint16(from), uint16(to)
	return w, nil
}

// published is a wish come true, on one address.
type published struct {
	port network.Port // the container's, of several the first
	host firewall.Ports
	sock reservation
}

// portMap is docker's view: what is published, and what is only exposed, with nothing behind it.
func portMap(list []published, r *JoinRequest) network.PortMap {
	m := network.PortMap{}
	for port := range r.Exposed {
		m[port] = nil
	}
	for port := range r.Ports {
		m[port] = nil
	}
	for _, p := range list {
		for n := int(p.host.From); n <= int(p.host.To); n++ {
			port := p.port
			if n > int(p.host.From) {
				port, _ = network.PortFrom(p.port.Num()+uint16(n)-p.host.From, p.port.Proto())
			}
			m[port] = append(m[port], network.PortBinding{HostIP: p.host.Addr, HostPort: strconv.Itoa(n)})
		}
	}
	return m
}

// targets is what the firewall is told of the ports of a container.
func (a *attachment) targets(list []published) map[firewall.Ports]firewall.Target {
	if len(list) == 0 {
		return nil
	}
	m := make(map[firewall.Ports]firewall.Target, len(list))
	for _, p := range list {
		if to := a.reached(p.host.Addr.Is6()); to.IsValid() {
			m[p.host] = firewall.Target{Addr: to, Port: p.port.Num()}
		}
	}
	return m
}

// reached is the container's address that ports of the family are published for; invalid without one.
func (a *attachment) reached(six bool) netip.Addr {
	switch {
	case six && a.way6 != nil:
		return a.way6.addr6.Addr()
	case !six && a.way4 != nil:
		return a.way4.addr.Addr()
	}
	return netip.Addr{}
}

// hasUDP says whether connections without an end are among them.
func hasUDP(list []published) bool {
	return slices.ContainsFunc(list, func(p published) bool { return p.host.Proto == network.UDP })
}
