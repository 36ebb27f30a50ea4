package firewall

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/moby/moby/api/types/network"
)

// Table is the state of the firewall as a value. Everything in the kernel is made from it, and nothing is read back.
type Table struct {
	Name    string
	Bridges []Bridge
	// Parts is how the names of further bridges begin that only make one of Bridges larger; empty if there are none.
	Parts string
	Ports map[Ports]Target
}

// Bridge is a bridge with the subnets behind it, and what is allowed there.
type Bridge struct {
	Name    string
	Subnets []netip.Prefix
	// Internal keeps everything inside: no way out, and none in but from the host itself.
	Internal bool
	// Apart keeps the containers on the bridge from each other.
	Apart bool
	// Open lets anybody in who has a route, to every port.
	Open bool
	// Masquerade gives the host's address to what leaves.
	Masquerade bool
}

// Ports are one or more ports of the host: of one address, or of all of a family if Addr is an unspecified one.
type Ports struct {
	Addr     netip.Addr
	Proto    network.IPProtocol
	From, To uint16
}

// One is a single port.
func One(addr netip.Addr, proto network.IPProtocol, port uint16) Ports {
	return Ports{addr, proto, port, port}
}

// Target is where connections to Ports go: the first port to Port, the next to the next.
type Target struct {
	Addr netip.Addr
	Port uint16
}

// singles calls fn for each port of its own. The kernel translates a range as a whole only if the numbers stay.
func (p Ports) singles(t Target, fn func(Ports, Target)) {
	for i := range int(p.To-p.From) + 1 {
		fn(One(p.Addr, p.Proto, p.From+uint16(i)), Target{t.Addr, t.Port + uint16(i)})
	}
}

func comparePorts(a, b Ports) int {
	return cmp.Or(a.Addr.Compare(b.Addr), strings.Compare(string(a.Proto), string(b.Proto)), cmp.Compare(a.From, b.From))
}

// chain is a chain of the table; without a hook it is one that others jump to.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    []rule
}

// rule is what the kernel is told, with the same in nft's words, for people.
type rule struct {
	text  string
	exprs []expr.Any
}

// portMap is one of the maps of published ports: of one family, of one address or of all, of single ports or of ranges.
type portMap struct {
	name    string
	v6, one bool
	ranges  bool
}

// portMaps are looked at in this order: a port of the packet's own address goes before one of all addresses.
var portMaps = []portMap{
	{name: "ports_of_address", one: true},
	{name: "ranges_of_address", one: true, ranges: true},
	{name: "ports"},
	{name: "ranges", ranges: true},
	{name: "ports6_of_address", v6: true, one: true},
	{name: "ranges6_of_address", v6: true, one: true, ranges: true},
	{name: "ports6", v6: true},
	{name: "ranges6", v6: true, ranges: true},
}

// holds says whether ports that go to the target belong into the map.
func (m *portMap) holds(p Ports, t Target) bool {
	return m.v6 == p.Addr.Is6() && m.one != p.Addr.IsUnspecified() && m.ranges == (p.From != p.To && p.From == t.Port)
}

// elements renders those of the ports that belong into the map, in a stable order.
func (m *portMap) elements(ports map[Ports]Target) []nftables.SetElement {
	var keys []Ports
	for k, t := range ports {
		if m.holds(k, t) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, comparePorts)
	list := make([]nftables.SetElement, 0, len(keys))
	for _, k := range keys {
		if m.ranges {
			list = append(list, nftables.SetElement{Key: k.key(k.From), KeyEnd: k.key(k.To), Val: ports[k].Addr.AsSlice()})
			continue
		}
		k.singles(ports[k], func(p Ports, t Target) {
			list = append(list, nftables.SetElement{Key: p.key(p.From), Val: t.value()})
		})
	}
	return list
}
