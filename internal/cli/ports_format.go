package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// formatPorts lists ports as docker's PORTS column: neighbours as ranges, published ones with their address.
func formatPorts(ports []container.PortSummary) string {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(x, y container.PortSummary) int {
		return cmp.Or(cmp.Compare(x.PrivatePort, y.PrivatePort), x.IP.Compare(y.IP), cmp.Compare(x.PublicPort, y.PublicPort), cmp.Compare(x.Type, y.Type))
	})
	type key struct {
		ip    netip.Addr
		proto string
		same  bool // published as the same number
	}
	type run struct{ first, last uint16 }
	runs := map[key]*run{}
	var order []key
	var out, moved []string // moved are published under another number, and come last
	flush := func(k key, r *run) {
		out = append(out, portRun(k.ip, k.proto, k.same, r.first, r.last))
	}
	for _, p := range ports {
		if p.PublicPort != 0 && p.PublicPort != p.PrivatePort {
			moved = append(moved, fmt.Sprintf("%s:%d->%d/%s", hostAddr(p.IP), p.PublicPort, p.PrivatePort, p.Type))
			continue
		}
		k := key{p.IP, p.Type, p.PublicPort != 0}
		r, ok := runs[k]
		switch {
		case !ok:
			runs[k] = &run{p.PrivatePort, p.PrivatePort}
			order = append(order, k)
		case p.PrivatePort == r.last+1 || p.PrivatePort == r.last:
			r.last = p.PrivatePort
		default:
			flush(k, r)
			r.first, r.last = p.PrivatePort, p.PrivatePort
		}
	}
	for _, k := range order {
		flush(k, runs[k])
	}
	return strings.Join(append(out, moved...), ", ")
}

func portRun(ip netip.Addr, proto string, published bool, first, last uint16) string {
	span := fmt.Sprint(first)
	if last != first {
		span = fmt.Sprintf("%d-%d", first, last)
	}
	if published {
		return fmt.Sprintf("%s:%s->%s/%s", hostAddr(ip), span, span, proto)
	}
	return span + "/" + proto
}

func hostAddr(ip netip.Addr) string {
	switch {
	case !ip.IsValid():
		return ""
	case ip.Is6():
		return "[" + ip.String() + "]"
	}
	return ip.String()
}
