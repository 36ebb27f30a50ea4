package network

import (
	"crypto/sha256"
	"net/netip"
	"os"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/dns"
)

// endpoint is a network namespace's place in a network.
type endpoint struct {
	id    string
	lan   *lan
	owner string // the container's name, for messages

	addr, addr6 netip.Prefix // invalid where the network has no addresses of the family
	via, via6   netip.Addr   // the gateways, invalid without
	direct      bool         // everybody is reached without a gateway
	mac         network.HardwareAddr
	ifName      string
	index       int    // in the namespace; 0 for any
	veth        string // the host's end, if there is one
	port        *part  // the bridge that the veth is on

	settings *network.EndpointSettings // docker's view, nil in the pool
	names    []string                  // what the name server calls it, the container's name first
	links    map[string]string         // further names for other containers, for this one only
}

// parked is a namespace that nobody uses yet. Its endpoint is on the default bridge, or on none.
type parked struct {
	ns *os.File
	endpoint
}

// attachment is a container's wiring.
type attachment struct {
	id, name, hostname string
	ends               []*endpoint // the one of the network mode first
	ports              []published
	way4, way6         *endpoint    // through which published ports reach the container; nil for none
	restarts           bool         // by a restart policy
	servers            []netip.Addr // of its own, for the name server to ask
	ownNames           bool         // it means to have port 53 for itself
	served             bool         // by the name server
	fresh              dns.Sockets  // copies of the name server's sockets that nobody keeps yet
}

// label names the container in messages.
func (a *attachment) label() string {
	if a.name != "" {
		return a.name
	}
	return a.id[:min(12, len(a.id))]
}

// on returns the container's endpoint on the network, or nil.
func (a *attachment) on(l *lan) *endpoint {
	for _, e := range a.ends {
		if e.lan == l {
			return e
		}
	}
	return nil
}

// route chooses the endpoint that has the default route of each family: of the highest priority, of several the first by
// name, as docker does.
func route(ends []*endpoint) (way4, way6 *endpoint) {
	better := func(e, than *endpoint) bool {
		if than == nil || e.settings.GwPriority != than.settings.GwPriority {
			return than == nil || e.settings.GwPriority > than.settings.GwPriority
		}
		return e.lan.Name < than.lan.Name
	}
	for _, e := range ends {
		if (e.via.IsValid() || e.direct && e.addr.IsValid()) && better(e, way4) {
			way4 = e
		}
		if (e.via6.IsValid() || e.direct && e.addr6.IsValid()) && better(e, way6) {
			way6 = e
		}
	}
	return way4, way6
}

// describe completes docker's view of the endpoint: the user's wishes, kept, and what became of them.
func (e *endpoint) describe(wanted *network.EndpointSettings) {
	s := wanted.Copy()
	if s == nil {
		s = &network.EndpointSettings{}
	}
	s.NetworkID, s.EndpointID = e.lan.ID, e.id
	s.IPAddress, s.IPPrefixLen, s.Gateway, s.MacAddress = netip.Addr{}, 0, netip.Addr{}, e.mac
	s.GlobalIPv6Address, s.GlobalIPv6PrefixLen, s.IPv6Gateway = netip.Addr{}, 0, netip.Addr{}
	if e.addr.IsValid() {
		s.IPAddress, s.IPPrefixLen, s.Gateway = e.addr.Addr(), e.addr.Bits(), e.via
	}
	if e.addr6.IsValid() {
		s.GlobalIPv6Address, s.GlobalIPv6PrefixLen, s.IPv6Gateway = e.addr6.Addr(), e.addr6.Bits(), e.via6
	}
	s.DNSNames = e.names
	e.settings = s
}

// name gives the endpoint the names that others on its network know it by, in docker's order. The default bridge has none.
func (e *endpoint) name(a *attachment, aliases []string) {
	if e.lan.predefined {
		return
	}
	e.names = nil
	for _, n := range slices.Concat([]string{a.name}, aliases, []string{a.id[:min(12, len(a.id))], a.hostname}) {
		if n != "" && !slices.Contains(e.names, n) {
			e.names = append(e.names, n)
		}
	}
}

// macOf derives the MAC address from the IP address, as docker did for long: whoever has the address has this MAC, so no
// neighbour's cache is ever wrong about it.
func macOf(a netip.Addr) network.HardwareAddr {
	if a.Is4() {
		b := a.As4()
		return network.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
	}
	sum := sha256.Sum256(a.AsSlice())
	return network.HardwareAddr{0x02, 0x46, sum[0], sum[1], sum[2], sum[3]}
}
