package cli

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"
)

// reachable says for each published port where it answers and for whom.
func reachable(ports network.PortMap) []string {
	keys := make([]network.Port, 0, len(ports))
	for p := range ports {
		keys = append(keys, p)
	}
	slices.SortFunc(keys, func(x, y network.Port) int { return int(x.Num()) - int(y.Num()) })
	var out []string
	for _, p := range keys {
		for _, b := range ports[p] {
			line := reachableAt(p, b)
			if line != "" && !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
	}
	return out
}

func reachableAt(p network.Port, b network.PortBinding) string {
	host, who := "localhost", "this machine and its network"
	switch {
	case b.HostPort == "":
		return ""
	case b.HostIP.IsLoopback():
		who = "this machine only"
		if b.HostIP != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && b.HostIP != netip.IPv6Loopback() {
			host = b.HostIP.String()
		}
	case b.HostIP.IsValid() && !b.HostIP.IsUnspecified():
		host, who = b.HostIP.String(), "whoever reaches that address"
	}
	addr := net.JoinHostPort(host, b.HostPort)
	if p.Proto() == network.TCP {
		addr = "http://" + addr
	}
	return fmt.Sprintf("%s (port %s, reachable from %s)", addr, p, who)
}
