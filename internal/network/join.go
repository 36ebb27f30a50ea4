package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/undo"
)

// JoinRequest asks for a network namespace with one endpoint.
type JoinRequest struct {
	ContainerID string
	// Name is the container's, for messages and for the network's inspect. May be empty.
	Name string
	// Network is "bridge" (or "default"), "none"; "host" and "container:X" never come here. User networks come later.
	Network string
	// Endpoint holds the user's wishes (address, MAC); may be nil.
	Endpoint *network.EndpointSettings
	// Ports are the container's published ports; a binding with an empty HostPort gets a free one, a range the first
	// free one in it. Exposed are those of the image and --expose, published all if PublishAll.
	Ports      network.PortMap
	Exposed    network.PortSet
	PublishAll bool
	Sysctls    map[string]string // net.* ones are set in the namespace
}

// Sandbox is a wired network namespace.
type Sandbox struct {
	// NS is the namespace; the caller closes it when the container's process has it.
	NS *os.File
	// Networks is docker's view of the endpoints, by network name.
	Networks map[string]*network.EndpointSettings
	// Ports are the bindings as made; ports that are only exposed have none.
	Ports network.PortMap
	// Resolv are the name servers that a container in it can reach (the host's, without loopback ones).
	Resolv ResolvConf
}

// Join makes the namespace, wires it and publishes the ports, all or nothing. A port in use is an errdefs.ErrConflict fault
// that names its owner. A container that is joined already leaves first.
func (m *Manager) Join(ctx context.Context, r JoinRequest) (_ *Sandbox, err error) {
	if err := m.Leave(ctx, r.ContainerID); err != nil {
		return nil, err
	}
	var u undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, u.Unwind(ctx))
		}
	}()
	p, err := m.namespace(&r)
	if err != nil {
		return nil, err
	}
	u.Push("give up namespace", func(context.Context) error { m.discard(p); return nil })
	if len(r.Sysctls) > 0 {
		if err := inNS(m.host, p.ns, func() error { return setSysctls(r.Sysctls) }); err != nil {
			return nil, err
		}
	}
	a := &attachment{id: r.ContainerID, name: r.Name, endpoint: p.endpoint}
	s := &Sandbox{NS: p.ns, Ports: network.PortMap{}}
	if p.network == network.NetworkBridge {
		if a.ports, err = m.publish(&u, a, &r); err != nil {
			return nil, err
		}
		s.Ports = portMap(a.ports, &r)
	}
	if s.Resolv, err = m.HostResolv(); err != nil {
		return nil, err
	}
	a.settings = m.settings(p, r.Endpoint)
	s.Networks = map[string]*network.EndpointSettings{p.network: a.settings.Copy()}
	m.mu.Lock()
	m.attached[r.ContainerID] = a
	m.mu.Unlock()
	u.Release()
	return s, nil
}

// namespace takes a ready one, or makes one that is as the request wants it.
func (m *Manager) namespace(r *JoinRequest) (*parked, error) {
	m.mu.Lock()
	wired, bare := m.wired, m.bare
	m.mu.Unlock()
	if bare == nil {
		return nil, errNotRestored
	}
	switch r.Network {
	case network.NetworkNone:
		if p := bare.take(); p != nil {
			return p, nil
		}
		return m.isolate()
	case network.NetworkBridge, network.NetworkDefault, "":
		if m.bridge == nil {
			return nil, fmt.Errorf("network %s not found: the daemon runs without a bridge: %w", network.NetworkBridge, errdefs.ErrNotFound)
		}
	default:
		return nil, fmt.Errorf("network %s not found: %w", r.Network, errdefs.ErrNotFound)
	}
	addr, mac, err := asked(r.Endpoint)
	if err != nil {
		return nil, err
	}
	if !addr.IsValid() && len(mac) == 0 {
		if p := wired.take(); p != nil {
			return p, nil
		}
	}
	return m.wireAsAsked(addr, mac)
}

// asked are the address and the MAC address that the user wants.
func asked(e *network.EndpointSettings) (addr netip.Addr, mac network.HardwareAddr, err error) {
	if e == nil {
		return addr, nil, nil
	}
	if len(e.MacAddress) != 0 && (len(e.MacAddress) != 6 || e.MacAddress[0]&1 != 0) {
		return addr, nil, fmt.Errorf("invalid MAC address %s: want six bytes, not a group's: %w", e.MacAddress, errdefs.ErrInvalidArgument)
	}
	if e.IPAMConfig == nil {
		return addr, e.MacAddress, nil
	}
	if a := e.IPAMConfig.IPv6Address; a.IsValid() {
		return addr, nil, &fault.Error{
			Code: "no-ipv6", What: fmt.Sprintf("cannot give the container the address %s", a),
			Cause: "the network bridge has no IPv6 addresses", Class: errdefs.ErrInvalidArgument,
		}
	}
	return e.IPAMConfig.IPv4Address.Unmap(), e.MacAddress, nil
}

// discard gives a namespace up that no container got.
func (m *Manager) discard(p *parked) {
	p.ns.Close()
	if p.addr.IsValid() {
		m.sweep.add(p.endpoint)
	}
}

// publish reserves the ports and sends what comes to them into the container.
func (m *Manager) publish(u *undo.Stack, a *attachment, r *JoinRequest) ([]published, error) {
	list, err := wishes(r)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	made := make([]published, 0, len(list))
	u.Push("release ports", func(context.Context) error { m.ports.release(made); return nil })
	for _, w := range list {
		p, err := m.ports.reserve(w, a.label())
		if err != nil {
			return nil, err
		}
		made = append(made, p)
	}
	to := targets(made, a.addr.Addr())
	if err := m.fw.publish(to); err != nil {
		return nil, err
	}
	u.Push("withdraw ports", func(context.Context) error { return m.fw.withdraw(to) })
	if hasUDP(made) {
		m.forgetUDP(made, a.addr.Addr())
	}
	return made, nil
}

// settings is docker's view of the endpoint: the user's wishes, kept, and what became of them.
func (m *Manager) settings(p *parked, wanted *network.EndpointSettings) *network.EndpointSettings {
	s := wanted.Copy()
	if s == nil {
		s = &network.EndpointSettings{}
	}
	s.NetworkID, s.EndpointID = m.c.networkID(p.network), p.id
	s.IPAddress, s.IPPrefixLen, s.Gateway, s.MacAddress = netip.Addr{}, 0, netip.Addr{}, nil
	if p.addr.IsValid() {
		s.IPAddress, s.IPPrefixLen = p.addr.Addr(), p.addr.Bits()
		s.Gateway, s.MacAddress = m.bridge.addr.Addr(), p.mac
	}
	return s
}
