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
)

// wish is a port that a container wants to be reached on.
type wish struct {
	port     network.Port
	addr     netip.Addr // of the host; the unspecified one for all
	from, to uint16     // the first free port from here to there; 0 for any
}

// every is the address that stands for all of the host's.
var every = netip.IPv4Unspecified()

// CheckPorts refuses port bindings that no join could ever serve.
func CheckPorts(ports network.PortMap) error {
	_, err := wishes(&JoinRequest{Ports: ports})
	return err
}

// wishes evens out what was asked for, in the order of the container's ports. It is pure.
func wishes(r *JoinRequest) ([]wish, error) {
	var list []wish
	for port, bindings := range r.Ports {
		if _, ok := protocolNumbers[port.Proto()]; !ok {
			return nil, fmt.Errorf("invalid proto: %s: %w", port.Proto(), errdefs.ErrInvalidArgument)
		}
		if port.Num() == 0 {
			return nil, fmt.Errorf("invalid container port %s: %w", port, errdefs.ErrInvalidArgument)
		}
		for _, b := range bindings {
			w, err := wishOf(port, b)
			if err != nil {
				return nil, err
			}
			list = append(list, w)
		}
	}
	if r.PublishAll {
		for port := range r.Exposed {
			if _, known := protocolNumbers[port.Proto()]; known && port.Num() != 0 && len(r.Ports[port]) == 0 {
				list = append(list, wish{port: port, addr: every})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b wish) int {
		return cmp.Or(cmp.Compare(a.port.Num(), b.port.Num()), strings.Compare(string(a.port.Proto()), string(b.port.Proto())))
	})
	return list, nil
}

func wishOf(port network.Port, b network.PortBinding) (wish, error) {
	w := wish{port: port, addr: b.HostIP.Unmap()}
	switch {
	case !w.addr.IsValid():
		w.addr = every
	case !w.addr.Is4():
		return w, &fault.Error{
			Code: "ipv6-port", What: fmt.Sprintf("cannot publish port %s on [%s]", port, w.addr),
			Cause: "ports are published on IPv4 addresses only so far", Class: errdefs.ErrNotImplemented,
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

// published is a wish come true.
type published struct {
	port network.Port
	host hostPort
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
		m[p.port] = append(m[p.port], network.PortBinding{HostIP: p.host.addr, HostPort: strconv.Itoa(int(p.host.port))})
	}
	return m
}

// targets is what the firewall is told of the ports of a container.
func targets(list []published, container netip.Addr) map[hostPort]target {
	if len(list) == 0 {
		return nil
	}
	m := make(map[hostPort]target, len(list))
	for _, p := range list {
		m[p.host] = target{container, p.port.Num()}
	}
	return m
}

// hasUDP says whether connections without an end are among them.
func hasUDP(list []published) bool {
	return slices.ContainsFunc(list, func(p published) bool { return p.host.proto == network.UDP })
}
