package network

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/network/ipam"
)

// bridge is a network's link on the host.
type bridge struct {
	name  string
	index int
	mtu   int
	ipv6  bool
	apart bool // its ports are kept from each other
	own   bool // made by us, and not merely used because the user named it

	mu    sync.Mutex // guards parts
	parts []*part    // the bridge itself first
}

const defaultMTU = 1500

// dump repeats a netlink listing that changed underneath, a few times: half a list is worse than none.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range 10 {
		l, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			return l, err
		}
	}
	return list()
}

// openBridge finds or makes the instance's bridge, and sets it right.
func openBridge(h *netlink.Handle, c *Config, lans []row) (*bridge, netip.Prefix, error) {
	link, err := findBridge(h, c)
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	if link == nil {
		if link, err = makeBridge(h, c.Bridge, c.alias(), randomMAC()); err != nil {
			return nil, netip.Prefix{}, err
		}
	}
	b := newBridge(link, c.alias())
	addr, err := bridgeAddress(h, c, link, lans)
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	return b, addr, b.bringUp(h, link, 0)
}

func newBridge(link netlink.Link, alias string) *bridge {
	at := link.Attrs()
	b := &bridge{name: at.Name, index: at.Index, own: at.Alias == alias}
	b.parts = []*part{{name: b.name, index: b.index}}
	return b
}

// bringUp sets the bridge right. An MTU of 0 is that of the default route for a bridge of our own.
func (b *bridge) bringUp(h *netlink.Handle, link netlink.Link, mtu int) error {
	if b.mtu = link.Attrs().MTU; b.own {
		b.mtu = routeMTU(h)
	}
	if mtu != 0 {
		b.mtu = mtu
	}
	if link.Attrs().MTU != b.mtu {
		if err := h.LinkSetMTU(link, b.mtu); err != nil {
			return fmt.Errorf("set the MTU of bridge %s: %w", b.name, err)
		}
	}
	if err := prepareHost(b); err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring up bridge %s: %w", b.name, err)
		}
	}
	return nil
}

// findBridge returns the bridge to use, or nil after having settled c.Bridge on the name of the one to make. A bridge
// that the user named is used as it is; one with our own names only if it says that it is ours.
func findBridge(h *netlink.Handle, c *Config) (netlink.Link, error) {
	names, named := []string{c.Bridge}, true
	if c.Bridge == "" {
		names, named = []string{"kist0", "kist-" + c.Instance}, false
	}
	free := ""
	for _, name := range names {
		c.Bridge = name
		link, err := h.LinkByName(name)
		switch {
		case errors.As(err, new(netlink.LinkNotFoundError)):
			if free == "" {
				free = name
			}
		case err != nil:
			return nil, fmt.Errorf("look for bridge %s: %w", name, err)
		case link.Type() == "bridge" && (named || link.Attrs().Alias == c.alias()):
			return link, nil
		}
	}
	if free != "" {
		c.Bridge = free
		return nil, nil
	}
	return nil, &fault.Error{
		Code: "bridge-taken", What: "cannot make the bridge " + c.Bridge,
		Cause: "an interface of that name is there and is not ours", Try: "kist daemon --bridge NAME", Class: errdefs.ErrConflict,
	}
}

func makeBridge(h *netlink.Handle, name, alias string, mac net.HardwareAddr) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.HardwareAddr = mac // else it would change with the ports, under everybody's ARP caches
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make bridge %s: %w", name, err)
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", name, err)
	}
	if err := h.LinkSetAlias(link, alias); err != nil {
		return nil, fmt.Errorf("mark bridge %s: %w", name, err)
	}
	link.Attrs().Alias = alias
	return link, nil
}

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

// routeMTU is that of the interface of the default route, so that what a container sends fits.
func routeMTU(h *netlink.Handle) int {
	routes, err := dump(func() ([]netlink.Route, error) { return h.RouteList(nil, unix.AF_INET) })
	if err != nil {
		return defaultMTU
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
			continue
		}
		if link, err := h.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU > 0 {
			return link.Attrs().MTU
		}
	}
	return defaultMTU
}

// prepareHost lets the host forward, and lets 127.0.0.1 be translated towards the bridge. Forwarding is never turned off
// again: others may rely on it by then.
func prepareHost(b *bridge) error {
	settings := []sysctl{
		{"/proc/sys/net/ipv4/ip_forward", "1"},
		{"/proc/sys/net/ipv4/conf/" + b.name + "/route_localnet", "1"},
	}
	switch {
	case b.ipv6:
		if err := forward6(); err != nil {
			return err
		}
		settings = append(
			settings,
			sysctl{"/proc/sys/net/ipv6/conf/" + b.name + "/disable_ipv6", "0"},
			sysctl{"/proc/sys/net/ipv6/conf/" + b.name + "/accept_ra", "0"}, // containers are no routers
		)
	case b.own:
		settings = append(settings, sysctl{"/proc/sys/net/ipv6/conf/" + b.name + "/disable_ipv6", "1"})
	}
	return setAll(settings)
}

// sysctl is a file below /proc/sys and what is to be in it.
type sysctl struct{ path, value string }

// setAll writes what is not there already.
func setAll(settings []sysctl) error {
	for _, s := range settings {
		have, err := os.ReadFile(s.path)
		if errors.Is(err, os.ErrNotExist) { // no IPv6
			continue
		}
		if err == nil && string(bytes.TrimSpace(have)) == s.value {
			continue
		}
		if err := writeSysctl(s.path, s.value); err != nil {
			return fmt.Errorf("set %s: %w", s.path, err)
		}
	}
	return nil
}

// forward6 lets the host forward IPv6. A kernel that forwards no longer listens to routers' announcements, from which the
// host may have its own address and route: the interfaces that do are told to go on.
func forward6() error {
	const forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"
	if have, err := os.ReadFile(forwarding); err == nil && bytes.TrimSpace(have)[0] == '1' {
		return nil
	}
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, f := range files {
		if have, err := os.ReadFile(f); err == nil && string(bytes.TrimSpace(have)) == "1" {
			if err := setAll([]sysctl{{f, "2"}}); err != nil {
				return err
			}
		}
	}
	return setAll([]sysctl{{forwarding, "1"}})
}

// randomMAC is a locally administered unicast address.
func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	return localMAC(mac)
}

// localMAC makes the address a locally administered unicast one.
func localMAC(mac net.HardwareAddr) net.HardwareAddr {
	mac[0] = mac[0]&^1 | 2
	return mac
}
