package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
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
