package network

import (
	"context"
	"errors"
	"net/netip"
	"os"

	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/undo"
)

// JoinRequest asks for a network namespace with an endpoint on each of some networks.
type JoinRequest struct {
	ContainerID string
	// Name is the container's, for messages, for the network's inspect and for name servers; Hostname only for those. Both
	// may be empty.
	Name, Hostname string
	// Network is the network of the container's mode: "bridge" (or "default"), "none" or a user's; "host" and "container:X"
	// never come here.
	Network string
	// Endpoint holds the user's wishes for it (address, MAC); may be nil.
	Endpoint *network.EndpointSettings
	// More are further networks, by name or id, with the wishes for them.
	More map[string]*network.EndpointSettings
	// Ports are the container's published ports; a binding with an empty HostPort gets a free one, a range the first
	// free one in it. Exposed are those of the image and --expose, published all if PublishAll.
	Ports      network.PortMap
	Exposed    network.PortSet
	PublishAll bool
	Sysctls    map[string]string // net.* ones are set in the namespace
	// Servers are the container's own name servers, asked from within its network instead of the host's.
	Servers []netip.Addr
	// Restarts says that the container has a restart policy: its names answer longer after its end.
	Restarts bool
}

// Sandbox is a wired network namespace.
type Sandbox struct {
	// NS is the namespace; the caller closes it when the container's process has it.
	NS *os.File
	// Networks is docker's view of the endpoints, by network name.
	Networks map[string]*network.EndpointSettings
	// Ports are the bindings as made; ports that are only exposed have none.
	Ports network.PortMap
	// Resolv are the name servers that a container in it can reach: the daemon's own, with the host's search domains and
	// options; of a container without a network, the host's without loopback ones.
	Resolv ResolvConf
	// Sockets are the name server's in the namespace, to be kept open while the container runs, whatever becomes of the
	// daemon. They are copies, and the caller's.
	Sockets []int
}

// Close gives back the caller's descriptors, when the container's process has them.
func (s *Sandbox) Close() error {
	closeAll(s.Sockets)
	s.Sockets = nil
	return s.NS.Close()
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
	a := &attachment{id: r.ContainerID, name: r.Name, hostname: r.Hostname, restarts: r.Restarts, servers: r.Servers, ownNames: r.servesNames()}
	ns, err := m.namespace(&u, a, &r)
	if err != nil {
		return nil, err
	}
	if len(r.Sysctls) > 0 {
		if err := inNS(m.host, ns, func() error { return setSysctls(r.Sysctls) }); err != nil {
			return nil, err
		}
	}
	s := &Sandbox{NS: ns, Ports: network.PortMap{}}
	if a.way4 != nil || a.way6 != nil {
		if a.ports, err = m.publish(&u, a, &r); err != nil {
			return nil, err
		}
		s.Ports = portMap(a.ports, &r)
	}
	if s.Resolv, err = m.HostResolv(); err != nil {
		return nil, err
	}
	if s.Sockets, err = m.serveNames(&u, a, ns); err != nil {
		return nil, err
	}
	if a.served {
		s.Resolv = a.resolv(s.Resolv)
	}
	s.Networks = a.view()
	m.mu.Lock()
	m.attached[r.ContainerID] = a
	m.mu.Unlock()
	u.Release()
	return s, nil
}

// view is docker's, of all endpoints, by the networks' names.
func (a *attachment) view() map[string]*network.EndpointSettings {
	v := make(map[string]*network.EndpointSettings, len(a.ends))
	for _, e := range a.ends {
		v[e.lan.Name] = e.settings.Copy()
	}
	return v
}

// namespace takes a ready one, or makes one that is as the request wants it.
func (m *Manager) namespace(u *undo.Stack, a *attachment, r *JoinRequest) (*os.File, error) {
	m.mu.Lock()
	wired, bare := m.wired, m.bare
	m.mu.Unlock()
	if bare == nil {
		return nil, errNotRestored
	}
	seats, err := m.seats(r)
	if err != nil {
		return nil, err
	}
	if first := seats[0]; len(seats) == 1 && first.plain() {
		var p *parked
		switch first.lan {
		case m.none:
			if p = bare.take(); p == nil {
				if p, err = m.isolate(); err != nil {
					return nil, err
				}
			}
		case m.lan:
			p = wired.take()
		}
		if p != nil {
			m.occupy(u, a, p, r)
			return p.ns, nil
		}
	}
	return m.assemble(u, a, seats, bare)
}

// occupy gives the container a namespace that is ready.
func (m *Manager) occupy(u *undo.Stack, a *attachment, p *parked, r *JoinRequest) {
	e := &p.endpoint
	e.owner = a.label()
	e.describe(r.Endpoint)
	a.ends = []*endpoint{e}
	if e.via.IsValid() {
		a.way4 = e
	}
	m.mu.Lock()
	e.lan.ends[a.id] = e
	m.mu.Unlock()
	u.Push("give up namespace", func(context.Context) error {
		p.ns.Close()
		m.vacateSeat(a, e)
		return nil
	})
}

// assemble makes a namespace with the endpoints.
func (m *Manager) assemble(u *undo.Stack, a *attachment, seats []*wanted, bare *pool) (_ *os.File, err error) {
	p := bare.take()
	if p == nil {
		if p, err = m.isolate(); err != nil {
			return nil, err
		}
	}
	u.Push("give up namespace", func(context.Context) error { return p.ns.Close() })
	for i, w := range seats {
		e, err := m.sit(a, w, int(m.ethIndex.Load())+i)
		if err != nil {
			return nil, err
		}
		a.ends = append(a.ends, e)
		u.Push("give up address", func(context.Context) error { m.vacateSeat(a, e); return nil })
	}
	nameInterfaces(a.ends)
	var in *rtnl
	if err := inNS(m.host, p.ns, func() (err error) { in, err = dialRtnl(); return err }); err != nil {
		return nil, err
	}
	defer in.close()
	a.way4, a.way6 = route(a.ends)
	err = m.connect(p.ns, in, a.ends, a.way4, a.way6)
	if err != nil {
		return nil, err
	}
	for i, e := range a.ends {
		if err := m.tune(p.ns, e, seats[i].sysctls); err != nil {
			return nil, err
		}
	}
	a.ways()
	return p.ns, nil
}

// tune sets the endpoint's own settings.
func (m *Manager) tune(ns *os.File, e *endpoint, sysctls map[string]string) error {
	if len(sysctls) == 0 {
		return nil
	}
	named := make(map[string]string, len(sysctls))
	for key, value := range sysctls {
		named[interfaceSysctl(key, e.ifName)] = value
	}
	return inNS(m.host, ns, func() error { return setSysctls(named) })
}

// ways leaves of the endpoints with the default routes those that published ports lead through: the host translates
// addresses only on bridges.
func (a *attachment) ways() {
	if a.way4 != nil && !a.way4.lan.wired() {
		a.way4 = nil
	}
	if a.way6 != nil && !a.way6.lan.wired() {
		a.way6 = nil
	}
}

// vacateSeat takes the container off the network; its address follows when its veth is gone.
func (m *Manager) vacateSeat(a *attachment, e *endpoint) {
	m.mu.Lock()
	if e.lan.ends[a.id] == e {
		delete(e.lan.ends, a.id)
	}
	m.mu.Unlock()
	m.letGo(e)
}

// letGo has the endpoint's address given back once nothing has it any more.
func (m *Manager) letGo(e *endpoint) {
	if e.veth != "" && e.port != nil {
		m.sweep.add(e)
		return
	}
	m.giveBack(e)
}
