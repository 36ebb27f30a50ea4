package cli

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// reachable says for each published port, or for several in a row, where it answers and for whom.
func reachable(ports network.PortMap) []string {
	keys := make([]network.Port, 0, len(ports))
	for p := range ports {
		keys = append(keys, p)
	}
	slices.SortFunc(keys, func(x, y network.Port) int {
		return cmp.Or(strings.Compare(string(x.Proto()), string(y.Proto())), int(x.Num())-int(y.Num()))
	})
	var out []string
	for i := 0; i < len(keys); {
		n := inRow(ports, keys[i:])
		last := ports[keys[i+n-1]]
		for j, b := range ports[keys[i]] {
			if b.HostIP == netip.IPv6Unspecified() && slices.ContainsFunc(ports[keys[i]], func(o network.PortBinding) bool {
				return o.HostPort == b.HostPort && o.HostIP == netip.IPv4Unspecified()
			}) {
				continue // said with the other
			}
			line := reachableAt(keys[i], b)
			if n > 1 {
				line = reachableRow(keys[i], keys[i+n-1], b, last[j])
			}
			if line != "" && !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
		i += n
	}
	return out
}

// inRow counts how many of the ports are published on ports in a row, as the first one is.
func inRow(ports network.PortMap, keys []network.Port) int {
	n := 1
	for n < len(keys) && keys[n].Proto() == keys[0].Proto() && int(keys[n].Num()) == int(keys[0].Num())+n &&
		slices.EqualFunc(ports[keys[0]], ports[keys[n]], func(a, b network.PortBinding) bool {
			first, err := strconv.Atoi(a.HostPort)
			return err == nil && a.HostIP == b.HostIP && b.HostPort == strconv.Itoa(first+n)
		}) && len(ports[keys[0]]) > 0 {
		n++
	}
	const worthIt = 8
	if n < worthIt {
		return 1
	}
	return n
}

func reachableRow(first, last network.Port, b, end network.PortBinding) string {
	host, who := whoReaches(b)
	return fmt.Sprintf("%s (ports %d-%d/%s, reachable from %s)", net.JoinHostPort(host, b.HostPort+"-"+end.HostPort), first.Num(), last.Num(), first.Proto(), who)
}

// whoReaches tells a published port's address, as one would type it, and who gets an answer there.
func whoReaches(b network.PortBinding) (host, who string) {
	host, who = "localhost", "this machine and its network"
	switch {
	case b.HostIP.IsLoopback():
		who = "this machine only"
		if b.HostIP != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && b.HostIP != netip.IPv6Loopback() {
			host = b.HostIP.String()
		}
	case b.HostIP == netip.IPv6Unspecified():
		host = "::" // localhost is 127.0.0.1 for published ports
	case b.HostIP.IsValid() && !b.HostIP.IsUnspecified():
		host, who = b.HostIP.String(), "whoever reaches that address"
	}
	return host, who
}

func reachableAt(p network.Port, b network.PortBinding) string {
	if b.HostPort == "" {
		return ""
	}
	host, who := whoReaches(b)
	addr := net.JoinHostPort(host, b.HostPort)
	if p.Proto() == network.TCP {
		addr = "http://" + addr
	}
	return fmt.Sprintf("%s (port %s, reachable from %s)", addr, p, who)
}
