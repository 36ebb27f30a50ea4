package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// Held is a container's wiring as the engine stored it.
type Held struct {
	ContainerID string
	Name        string // for messages and inspect, may be empty
	Networks    map[string]*network.EndpointSettings
	Ports       network.PortMap
	PID         int
}

// Restore takes over the wiring of the containers that run, after a restart of the daemon, and removes all other. It is
// called once, before the first Join.
func (m *Manager) Restore(ctx context.Context, running []Held) error {
	ports := map[hostPort]target{}
	veths := map[string]bool{}
	for _, h := range running {
		for name, s := range h.Networks {
			if s == nil || name != network.NetworkBridge && name != network.NetworkNone {
				continue
			}
			a := m.restoreOne(&h, name, s)
			for hp, t := range targets(a.ports, a.addr.Addr()) {
				ports[hp] = t
			}
			veths[a.veth] = true
		}
	}
	if m.bridge == nil {
		m.startPools()
		return nil
	}
	if err := errors.Join(m.fw.set(ports), m.removePorts(veths)); err != nil {
		return err
	}
	var err error
	if m.watch, err = watch(m.fw); err != nil {
		return err
	}
	m.startPools()
	return nil
}

// restoreOne takes a container's address and ports.
func (m *Manager) restoreOne(h *Held, name string, s *network.EndpointSettings) *attachment {
	a := &attachment{id: h.ContainerID, name: h.Name, settings: s.Copy()}
	a.endpoint = endpoint{id: s.EndpointID, network: name, mac: s.MacAddress}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attached[h.ContainerID] = a
	if name == network.NetworkNone || m.bridge == nil {
		return a
	}
	a.veth = m.c.vethName(s.EndpointID)
	a.addr = netip.PrefixFrom(s.IPAddress, s.IPPrefixLen)
	if err := m.addrs.claim(s.IPAddress, s.EndpointID); err != nil {
		slog.Warn("a running container keeps an address that the network would not give it", "container", a.label(), "error", err)
	}
	for port, bindings := range h.Ports {
		for _, b := range bindings {
			n, err := strconv.ParseUint(b.HostPort, 10, 16)
			addr := b.HostIP.Unmap()
			if !addr.IsValid() {
				addr = every
			}
			if err != nil || !addr.Is4() || !s.IPAddress.Is4() || protocolNumbers[port.Proto()] == 0 {
				continue
			}
			hp := hostPort{addr, port.Proto(), uint16(n)}
			a.ports = append(a.ports, m.ports.restore(port, hp, a.label()))
		}
	}
	return a
}

// removePorts deletes the instance's veth pairs but those to keep, and puts those on the bridge if they are not.
func (m *Manager) removePorts(keep map[string]bool) error {
	links, err := dump(m.links.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	var stale []string
	for _, l := range links {
		at := l.Attrs()
		switch {
		case l.Type() != "veth" || !strings.HasPrefix(at.Name, m.c.vethPrefix()) || !isHex(at.Name[len(m.c.vethPrefix()):]):
		case !keep[at.Name]:
			stale = append(stale, at.Name)
		case at.MasterIndex != m.bridge.index:
			if err := m.links.LinkSetMasterByIndex(l, m.bridge.index); err != nil {
				errs = append(errs, fmt.Errorf("put %s on the bridge: %w", at.Name, err))
			}
		}
	}
	return errors.Join(append(errs, m.rt.removeAll(stale))...)
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

func (m *Manager) startPools() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bare = newPool(minBare, maxBare, m.isolate)
	if m.bridge != nil {
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
