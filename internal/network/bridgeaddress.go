package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/network/ipam"
)

// bridgeAddress returns the bridge's address, given one if it has none or not the one that BIP asks for.
func bridgeAddress(h *netlink.Handle, c *Config, link netlink.Link, lans []row) (netip.Prefix, error) {
	have, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(link, unix.AF_INET) })
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list the addresses of bridge %s: %w", c.Bridge, err)
	}
	for _, a := range have {
		if p := toPrefix(a.IPNet); !c.BIP.IsValid() || p == c.BIP {
			return p, nil
		}
	}
	want := c.BIP
	if !want.IsValid() {
		if want, err = chooseAddress(h, c, lans); err != nil {
			return netip.Prefix{}, err
		}
	}
	if err := mayReaddress(h, link, have); err != nil {
		return netip.Prefix{}, err
	}
	for _, a := range have { // addresses of an earlier BIP
		if err := h.AddrDel(link, &a); err != nil {
			return netip.Prefix{}, fmt.Errorf("remove address %s of bridge %s: %w", a.IPNet, c.Bridge, err)
		}
	}
	addr := &netlink.Addr{
		IPNet:     &net.IPNet{IP: want.Addr().AsSlice(), Mask: net.CIDRMask(want.Bits(), 32)},
		Broadcast: ipam.Last(want).AsSlice(),
	}
	if err := h.AddrAdd(link, addr); err != nil {
		return netip.Prefix{}, fmt.Errorf("give bridge %s the address %s: %w", c.Bridge, want, err)
	}
	return want, remember(c, want)
}

// chooseAddress returns the address that the instance's bridge had last, or a new one if it never had any or something
// else has the subnet by now.
func chooseAddress(h *netlink.Handle, c *Config, lans []row) (netip.Prefix, error) {
	used, err := usedPrefixes(h, unix.AF_INET)
	if err != nil {
		return netip.Prefix{}, err
	}
	for i := range lans { // their bridges may not be there yet
		used = append(used, lans[i].subnets()...)
	}
	if b, err := os.ReadFile(c.addressFile()); err == nil && c.StateDir != "" {
		last, err := netip.ParsePrefix(string(b))
		if err == nil && last.Addr().Is4() && last.Bits() <= 30 && !ipam.Overlaps(last.Masked(), used) {
			return last, nil
		}
	}
	subnet, err := ipam.Choose4(used)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits()), nil
}

// remember keeps the bridge's address, so that containers find their gateway again should the bridge be deleted while
// no daemon runs.
func remember(c *Config, addr netip.Prefix) error {
	if c.StateDir == "" {
		return nil
	}
	if err := errors.Join(os.MkdirAll(c.StateDir, 0o700), os.WriteFile(c.addressFile(), []byte(addr.String()), 0o600)); err != nil {
		return fmt.Errorf("remember the address of bridge %s: %w", c.Bridge, err)
	}
	return nil
}

// mayReaddress refuses to take an address away under the feet of running containers.
func mayReaddress(h *netlink.Handle, link netlink.Link, have []netlink.Addr) error {
	if len(have) == 0 {
		return nil
	}
	links, err := dump(h.LinkList)
	if err != nil {
		return fmt.Errorf("list the ports of bridge %s: %w", link.Attrs().Name, err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == link.Attrs().Index {
			return &fault.Error{
				Code: "bridge-in-use", What: "cannot change the address of bridge " + link.Attrs().Name,
				Cause: fmt.Sprintf("running containers use %s", have[0].IPNet), Try: "stop them first", Class: errdefs.ErrConflict,
			}
		}
	}
	return nil
}

// usedPrefixes are those of the host's addresses and routes in all tables, and of its name servers.
func usedPrefixes(h *netlink.Handle, family int) ([]netip.Prefix, error) {
	var used []netip.Prefix
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil {
			used = append(used, toPrefix(r.Dst))
		}
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range addrs {
		used = append(used, toPrefix(a.IPNet))
	}
	if host, err := readHostResolv(); err == nil {
		for _, s := range host.Servers {
			if s.Is4() == (family == unix.AF_INET) {
				used = append(used, netip.PrefixFrom(s, s.BitLen()))
			}
		}
	}
	return used, nil
}

func toPrefix(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}
