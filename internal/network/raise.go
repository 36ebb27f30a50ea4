package network

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// raise makes the network's bridge, or takes over the one that is there, and sets it right. Networks of other drivers have
// nothing on the host.
func (m *Manager) raise(l *lan) (err error) {
	if !l.wired() || l.ConfigOnly {
		return nil
	}
	alias := m.c.lanAlias(l.ID)
	link, err := m.links.LinkByName(l.bridge)
	made := errors.As(err, new(netlink.LinkNotFoundError))
	switch {
	case made:
		mac := m.c.linkMAC(l.bridge)
		if l.Options[optBridgeName] != "" { // Other hosts may have one of that name.
			mac = randomMAC()
		}
		if link, err = makeBridge(m.links, l.bridge, alias, mac); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("look for bridge %s: %w", l.bridge, err)
	default:
		if err := m.mayUse(l, link, alias); err != nil {
			return err
		}
	}
	b := newBridge(link, alias)
	b.ipv6, b.apart = l.IPv6, l.apart
	defer func() {
		if err != nil && made {
			err = errors.Join(err, m.takeDown(b))
		}
	}()
	if err := b.bringUp(m.links, link, l.mtu); err != nil {
		return err
	}
	if err := m.addresses(link, b.own, l.hostAddresses()); err != nil {
		return err
	}
	m.mu.Lock()
	l.link = b
	m.mu.Unlock()
	return nil
}

// mayUse refuses a link that is there but is no bridge, or is another network's.
func (m *Manager) mayUse(l *lan, link netlink.Link, alias string) error {
	named := l.Options[optBridgeName] != ""
	f := &fault.Error{Code: "bridge-taken", What: "cannot make the bridge " + l.bridge, Class: errdefs.ErrConflict}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.lans {
		if o != l && o.link != nil && o.link.name == l.bridge {
			f.Cause = "it is that of the network " + o.Name
			return f
		}
	}
	if link.Type() != "bridge" || !named && link.Attrs().Alias != alias {
		f.Cause = "an interface of that name is there and is not ours"
		return f
	}
	return nil
}

// addresses gives the link those it lacks, and takes from one of our own those it should not have.
func (m *Manager) addresses(link netlink.Link, own bool, want []netip.Prefix) error {
	name := link.Attrs().Name
	have, err := dump(func() ([]netlink.Addr, error) { return m.links.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list the addresses of bridge %s: %w", name, err)
	}
	missing := map[netip.Prefix]bool{}
	for _, p := range want {
		missing[p] = true
	}
	for _, a := range have {
		p := toPrefix(a.IPNet)
		if missing[p] {
			delete(missing, p)
		} else if own && !p.Addr().IsLinkLocalUnicast() {
			if err := m.links.AddrDel(link, &a); err != nil {
				return fmt.Errorf("remove address %s of bridge %s: %w", p, name, err)
			}
		}
	}
	for p := range missing {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := m.links.AddrAdd(link, a); err != nil {
			return fmt.Errorf("give bridge %s the address %s: %w", name, p, err)
		}
	}
	return nil
}

// lower removes the network's links.
func (m *Manager) lower(l *lan) error {
	if l.link != nil {
		return m.takeDown(l.link)
	}
	if l.Driver != driverMacvlan && l.Driver != driverIPvlan {
		return nil
	}
	link, err := m.links.LinkByName(l.parentName())
	if err == nil && link.Attrs().Alias == m.c.lanAlias(l.ID) { // made by us
		return m.rt.remove(l.parentName())
	}
	return nil
}

// openLANs raises the networks of the rows, and removes the bridges that have no row. A network that cannot be raised is
// tried again when a container wants to join it.
func (m *Manager) openLANs(stored []row) error {
	for _, r := range stored {
		l, err := newLAN(r)
		if err != nil {
			slog.Warn("a network's row is not understood", "network", r.Name, "error", err)
			continue
		}
		if err := m.raise(l); err != nil {
			slog.Warn("a network could not be set up; it is tried again when a container joins it", "network", r.Name, "error", err)
		}
		m.mu.Lock()
		m.lans[l.ID] = l
		m.mu.Unlock()
	}
	return m.tidy()
}

// tidy finds the parts of bridges, and removes links of ours that belong to no network any more.
func (m *Manager) tidy() error {
	links, err := dump(m.links.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	bridges, known := map[string]*bridge{}, map[string]bool{}
	m.mu.Lock()
	for _, l := range m.lans {
		known[m.c.lanAlias(l.ID)] = true
		if l.link != nil {
			bridges[l.link.name] = l.link
		}
	}
	m.mu.Unlock()
	var stale []string
	for _, l := range links {
		attrs := l.Attrs()
		unmarked := attrs.Alias == "" && l.Type() == "bridge" && bytes.Equal(attrs.HardwareAddr, m.c.linkMAC(attrs.Name))
		ours := strings.HasPrefix(attrs.Alias, "kist network ") && strings.HasSuffix(attrs.Alias, " of "+m.c.Instance)
		if unmarked || ours && !known[attrs.Alias] {
			stale = append(stale, attrs.Name)
		}
	}
	if err := m.rt.removeAll(stale); err != nil {
		return err
	}
	return m.takeOver(links, bridges)
}

// ready raises a network that could not be raised before.
func (m *Manager) ready(l *lan) error {
	if !l.wired() {
		return nil
	}
	m.making.Lock()
	defer m.making.Unlock()
	if l.link != nil {
		return nil
	}
	if err := m.raise(l); err != nil {
		return err
	}
	return m.renewRules(l)
}
