package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network/firewall"
)

// Held is a container's wiring as the engine stored it.
type Held struct {
	ContainerID string
	Name        string // for messages, inspect and name servers, may be empty
	Hostname    string
	Networks    map[string]*network.EndpointSettings
	Ports       network.PortMap
	PID         int
	// Sockets are copies of Sandbox.Sockets, which the manager takes; none if nobody has kept them. Servers and Restarts
	// are the JoinRequest's.
	Sockets  []int
	Servers  []netip.Addr
	Restarts bool
}

// Restore takes over the wiring of the containers that run, after a restart of the daemon, and removes all other. It is
// called once, before the first Join.
func (m *Manager) Restore(ctx context.Context, running []Held) error {
	ports := map[firewall.Ports]firewall.Target{}
	veths := map[string]*endpoint{}
	list := make([]*attachment, len(running))
	for i := range running {
		a := m.restoreOne(&running[i])
		list[i] = a
		maps.Copy(ports, a.targets(a.ports))
		for _, e := range a.ends {
			if e.veth != "" {
				veths[e.veth] = e
			}
		}
	}
	m.resumeNames(list, running)
	if m.links == nil {
		m.startPools()
		return nil
	}
	if err := errors.Join(m.fw.Set(ports), m.removePorts(veths)); err != nil {
		return err
	}
	var err error
	if m.watch, err = firewall.Watch(m.fw); err != nil {
		return err
	}
	m.startPools()
	return nil
}

// restoreOne takes a container's addresses and ports.
func (m *Manager) restoreOne(h *Held) *attachment {
	a := &attachment{id: h.ContainerID, name: h.Name, hostname: h.Hostname, restarts: h.Restarts, servers: h.Servers, ownNames: exposes(h.Ports)}
	m.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(h.Networks)) {
		if e := m.restoreEnd(a, name, h.Networks[name]); e != nil {
			a.ends = append(a.ends, e)
		}
	}
	m.attached[h.ContainerID] = a
	m.mu.Unlock()
	a.way4, a.way6 = route(a.ends)
	a.ways()
	for _, w := range held(h.Ports) {
		if a.reached(w.addrs[0].Is6()).IsValid() {
			a.ports = append(a.ports, m.ports.restore(w, a.label())...)
		}
	}
	return a
}

// restoreEnd takes one network's addresses. A network that is gone leaves nothing to take. m.mu is held.
func (m *Manager) restoreEnd(a *attachment, name string, s *network.EndpointSettings) *endpoint {
	if s == nil || len(s.EndpointID) < maxIfName {
		return nil
	}
	l := m.lans[s.NetworkID]
	if l == nil {
		var err error
		if l, err = m.find(name); err != nil {
			slog.Warn("a running container is on a network that is gone", "container", a.label(), "network", name)
			return nil
		}
	}
	e := &endpoint{id: s.EndpointID, lan: l, owner: a.label(), mac: s.MacAddress, via: s.Gateway, via6: s.IPv6Gateway, links: linkNames(s.Links)}
	e.direct = l.layer3()
	if s.IPAddress.IsValid() {
		e.addr = netip.PrefixFrom(s.IPAddress, s.IPPrefixLen)
	}
	if s.GlobalIPv6Address.IsValid() {
		e.addr6 = netip.PrefixFrom(s.GlobalIPv6Address, s.GlobalIPv6PrefixLen)
	}
	for _, p := range []netip.Prefix{e.addr, e.addr6} {
		if !p.IsValid() {
			continue
		}
		if _, err := l.group(p.Addr().Is6()).Claim(p.Addr(), e.id); err != nil {
			slog.Warn("a running container keeps an address that the network would not give it", "container", a.label(), "error", err)
		}
	}
	if l.wired() {
		e.veth = m.c.vethName(e.id)
	}
	e.name(a, s.Aliases)
	e.describe(s)
	l.ends[a.id] = e
	return e
}

// held makes wishes of ports as they are.
func held(ports network.PortMap) []wish {
	var list []wish
	for port, bindings := range ports {
		for _, b := range bindings {
			n, err := strconv.ParseUint(b.HostPort, 10, 16)
			addr := b.HostIP.Unmap()
			if !addr.IsValid() {
				addr = every
			}
			if err != nil || n == 0 || !firewall.Knows(port.Proto()) {
				continue
			}
			list = append(list, wish{port: port, addrs: []netip.Addr{addr}, from: uint16(n), to: uint16(n)})
		}
	}
	return inOrder(list)
}

// removePorts deletes the instance's veth pairs but those to keep, and puts those on their bridge if they are not.
func (m *Manager) removePorts(keep map[string]*endpoint) error {
	links, err := dump(m.links.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	var stale []string
	for _, l := range links {
		at := l.Attrs()
		if l.Type() != "veth" || !strings.HasPrefix(at.Name, m.c.vethPrefix()) || !isHex(at.Name[len(m.c.vethPrefix()):]) {
			continue
		}
		e := keep[at.Name]
		if e == nil {
			stale = append(stale, at.Name)
			continue
		}
		if e.port = e.lan.link.sitting(at.MasterIndex); e.port != nil {
			continue
		}
		if e.port, err = m.seat(e.lan.link); err == nil {
			err = m.links.LinkSetMasterByIndex(l, e.port.index)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("put %s on the bridge: %w", at.Name, err))
		}
	}
	return errors.Join(append(errs, m.rt.removeAll(stale))...)
}

// sitting counts a port that is there, if it is on the bridge.
func (b *bridge) sitting(master int) *part {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.parts {
		if p.index == master {
			p.ports++
			return p
		}
	}
	return nil
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

func (m *Manager) startPools() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bare = newPool(minBare, maxBare, m.isolate)
	if m.lan != nil {
		m.wired = newPool(minWired, maxWired, m.wire)
	}
}

// stopPools ends the pools and their namespaces.
func (m *Manager) stopPools() {
	m.mu.Lock()
	pools := []*pool{m.wired, m.bare}
	m.wired, m.bare = nil, nil
	m.mu.Unlock()
	for _, p := range pools {
		if p == nil {
			continue
		}
		for _, one := range p.close() {
			one.ns.Close()
		}
	}
}
