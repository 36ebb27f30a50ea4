package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/network/firewall"
	"github.com/kistdev/kist/internal/network/ipam"
	"github.com/kistdev/kist/internal/typo"
)

// lan is a network in memory. What Manager.mu guards is said; the rest never changes.
type lan struct {
	row
	options
	predefined bool
	link       *bridge // nil for other drivers; set under Manager.mu, never changed

	v4, v6 ipam.Group           // guarded by Manager.mu
	ends   map[string]*endpoint // of containers, by container id; guarded by Manager.mu
	kept   map[string]*keepsake // addresses of containers that left, by container id; guarded by Manager.mu
	gone   bool                 // removed, or about to be; guarded by Manager.mu
}

// keepsake is the addresses that a container had: it finds them again if it comes back soon, so that who knows them from
// the name server does not meet a stranger.
type keepsake struct {
	v4, v6 netip.Addr
	veth   string // the pair that has them, while it is there; empty after
	until  time.Time
}

// keepFor is longer than anybody remembers a name server's answer.
const keepFor = 75 * time.Second

// newLAN makes the network of a row. Its link is not there yet.
func newLAN(r row) (*lan, error) {
	o, err := parseOptions(r.Driver, r.Options)
	if err != nil {
		return nil, err
	}
	l := &lan{row: r, options: o, ends: map[string]*endpoint{}, kept: map[string]*keepsake{}}
	if l.bridge == "" && r.Driver == driverBridge {
		l.bridge = "kist-" + r.ID[:maxIfName-len("kist-")]
	}
	for _, c := range r.IPAM.Config {
		p := ipam.NewPool(c.Subnet, c.IPRange, c.Gateway, c.AuxAddress)
		if c.Subnet.Addr().Is4() {
			l.v4 = append(l.v4, p)
		} else {
			l.v6 = append(l.v6, p)
		}
	}
	return l, nil
}

// wired says whether endpoints have a pair of interfaces with one end on the host.
func (l *lan) wired() bool { return l.Driver == driverBridge }

// hasGateway says whether the host itself is the way out of the network, or would be if there were one.
func (l *lan) hasGateway(six bool) bool {
	if six {
		return l.IPv6 && !l.Internal && l.gateway6 != gatewayIsolated
	}
	return l.IPv4 && !l.Internal && l.gateway4 != gatewayIsolated
}

// hostAddresses are those that the host has on the network's bridge.
func (l *lan) hostAddresses() []netip.Prefix {
	var list []netip.Prefix
	if !l.wired() {
		return nil
	}
	if l.gateway4 != gatewayIsolated {
		list = append(list, gateways(l.v4)...)
	}
	if l.gateway6 != gatewayIsolated {
		list = append(list, gateways(l.v6)...)
	}
	return list
}

func gateways(g ipam.Group) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range g {
		if p.Gateway().IsValid() {
			list = append(list, netip.PrefixFrom(p.Gateway(), p.Subnet().Bits()))
		}
	}
	return list
}

// rules are what the firewall is told of the network.
func (l *lan) rules() firewall.Bridge {
	return firewall.Bridge{
		Name: l.link.name, Subnets: l.subnets(), Internal: l.Internal, Apart: l.apart, Masquerade: l.masquerade,
		Open: l.gateway4 == gatewayUnprotected || l.gateway6 == gatewayUnprotected,
	}
}

// find returns the network of that name or id, or the only one whose id begins so. m.mu is held.
func (m *Manager) find(name string) (*lan, error) {
	if name == network.NetworkDefault {
		name = network.NetworkBridge
	}
	var found []*lan
	for _, l := range m.lans {
		if l.Name == name || l.ID == name {
			return l, nil
		}
		if name != "" && strings.HasPrefix(l.ID, name) {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 0:
		return nil, m.unknown(name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("network %s is ambiguous (%d matches found on ID prefix): %w", name, len(found), errdefs.ErrInvalidArgument)
}

// unknown says which network may have been meant. m.mu is held.
func (m *Manager) unknown(name string) error {
	f := &fault.Error{Code: "no-such-network", What: "network " + name + " not found", Class: errdefs.ErrNotFound}
	if name == network.NetworkBridge {
		f.Cause, f.Try = "the daemon runs without a bridge", "kist network create NAME, and --network NAME"
		return f
	}
	var names []string
	for _, l := range m.lans {
		names = append(names, l.Name)
	}
	if near := typo.Nearest(name, names); near != "" {
		f.Try = "did you mean " + near + "?"
	}
	return f
}

// sorted are the networks by name. m.mu is held.
func (m *Manager) sorted() []*lan {
	list := make([]*lan, 0, len(m.lans))
	for _, l := range m.lans {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *lan) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// users names the containers on the network, and those that are about to join. m.mu is held.
func (l *lan) users() []string {
	var names []string
	for _, e := range l.ends {
		names = append(names, e.owner)
	}
	slices.Sort(names)
	return names
}
