package network

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/network/ipam"
)

func badSubnet(format string, args ...any) error {
	return fmt.Errorf("invalid network config: %s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}

// checkSubnet refuses what no network could have.
func checkSubnet(c *network.IPAMConfig) (netip.Prefix, error) {
	p := c.Subnet
	switch {
	case !p.IsValid():
		return p, badSubnet("a range, gateway or taken address without a subnet")
	case p.Addr().Is4In6():
		return p, badSubnet("invalid subnet %s: want an IPv4 subnet as such", p)
	case p != p.Masked():
		return p, badSubnet("invalid subnet %s: it should be %s", p, p.Masked())
	case p.Addr().BitLen()-p.Bits() < 1:
		return p, badSubnet("invalid subnet %s: it has room for a gateway or a container, not for both", p)
	case p.Bits() < 1 || p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Contains(netip.IPv4Unspecified()) || p.Contains(netip.IPv6LinkLocalAllNodes()) || p.Addr().IsLinkLocalUnicast() && p.Addr().Is6():
		return p, badSubnet("invalid subnet %s: its addresses are no hosts' addresses", p)
	}
	return p, nil
}

// checkRest checks what lies in the subnet, and completes it with a gateway.
func checkRest(c *network.IPAMConfig) error {
	p := c.Subnet
	if r := c.IPRange; r.IsValid() && (r != r.Masked() || !p.Contains(r.Addr()) || r.Bits() < p.Bits()) {
		return badSubnet("invalid ip-range %s: want a range in the subnet %s", r, p)
	}
	taken := map[netip.Addr]bool{}
	for name, a := range c.AuxAddress {
		if !ipam.Usable(p, a) {
			return badSubnet("invalid auxiliary address %s (%s): no address for a host in the subnet %s", a, name, p)
		}
		taken[a] = true
	}
	if c.Gateway.IsValid() {
		if !ipam.Usable(p, c.Gateway) {
			return badSubnet("invalid gateway address %s: no address for a host in the subnet %s", c.Gateway, p)
		}
		if taken[c.Gateway] {
			return badSubnet("the gateway %s is an auxiliary address, too", c.Gateway)
		}
		return nil
	}
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		if ipam.Usable(p, a) && !taken[a] {
			c.Gateway = a
			return nil
		}
	}
	return badSubnet("the subnet %s has no address left for the gateway", p)
}

// unclaimed refuses a subnet that overlaps another network or one that the host is on, and says whose it is. A subnet in
// the midst of a larger route is only worth a warning: it takes those addresses away from there, which may be meant.
func (m *Manager) unclaimed(p netip.Prefix, driver, bridge string) (warning string, err error) {
	m.mu.Lock()
	for _, l := range m.sorted() {
		// Networks on a link of the host's may share its subnet, each on a link of its own.
		if l.ConfigOnly || driver != driverBridge && l.Driver != driverBridge {
			continue
		}
		for _, s := range l.subnets() {
			if s.Overlaps(p) {
				m.mu.Unlock()
				return "", overlap(p, fmt.Sprintf("the network %s has %s", l.Name, s))
			}
		}
	}
	m.mu.Unlock()
	if driver != driverBridge {
		return "", nil
	}
	family := unix.AF_INET
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	return m.unrouted(p, family, bridge)
}

func (m *Manager) unrouted(p netip.Prefix, family int, bridge string) (warning string, err error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return m.links.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return "", fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_LOCAL {
			continue
		}
		dst := toPrefix(r.Dst)
		if dst.Bits() == 0 || !dst.Overlaps(p) {
			continue
		}
		on := m.linkOf(r.LinkIndex)
		switch {
		case on == bridge && bridge != "":
		case r.Gw == nil || dst.Bits() >= p.Bits():
			return "", overlap(p, fmt.Sprintf("this host has a route to %s on %s", dst, on))
		default:
			warning = fmt.Sprintf("the subnet %s is part of %s, which this host has a route to on %s", p, dst, on)
		}
	}
	return warning, nil
}

func (m *Manager) linkOf(index int) string {
	link, err := m.links.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("interface %d", index)
	}
	return link.Attrs().Name
}

func overlap(p netip.Prefix, cause string) error {
	return &fault.Error{
		Code: "subnet-overlap", What: "cannot have the subnet " + p.String() + ": it overlaps another", Words: "cannot have the subnet " + p.String(), Try: "another --subnet, or none: then a free one is chosen",
		Cause: "Pool overlaps with other one on this address space: " + cause, Class: errdefs.ErrPermissionDenied,
	}
}

// hostHasIPv6 says whether the host has an IPv6 address that others know it by, on an interface that is not kist's.
func hostHasIPv6() bool {
	b, err := os.ReadFile("/proc/thread-self/net/if_inet6")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(strings.Split(string(b), "\n"), func(line string) bool {
		f := strings.Fields(line)
		const global = "00"
		return len(f) == 6 && f[3] == global && !strings.HasPrefix(f[5], "kist")
	})
}
