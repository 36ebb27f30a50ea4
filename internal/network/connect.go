package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/network/firewall"
	"github.com/kistdev/kist/internal/undo"
)

// Connect puts a container that runs on one more network, and returns docker's view of the endpoint, under the network's
// name. process is a descriptor of its first process, or of its network namespace.
func (m *Manager) Connect(ctx context.Context, containerID, name string, s *network.EndpointSettings, process *os.File) (_ string, _ *network.EndpointSettings, err error) {
	a, w, err := m.joining(containerID, name, s)
	if err != nil {
		return "", nil, err
	}
	var u undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, u.Unwind(ctx))
		}
	}()
	v, err := m.visit(process)
	if err != nil {
		return "", nil, err
	}
	defer v.close()
	e, err := m.sit(a, w, 0)
	if err != nil {
		return "", nil, err
	}
	u.Push("give up address", func(context.Context) error { m.vacateSeat(a, e); return nil })
	v.name(e)
	if err := m.connect(v.ns, v.rt, []*endpoint{e}, nil, nil); err != nil {
		return "", nil, err
	}
	u.Push("remove interface", func(context.Context) error { return m.unplug(v, e) })
	if err := m.tune(v.ns, e, w.sysctls); err != nil {
		return "", nil, err
	}
	before := a.ends
	if err := m.rewire(a, append(before[:len(before):len(before)], e), v); err != nil {
		return "", nil, errors.Join(err, m.rewire(a, before, v))
	}
	if err := m.serveLater(&u, a, v.ns); err != nil {
		return "", nil, err
	}
	u.Release()
	m.nameEndpoint(a, e)
	return w.lan.Name, e.settings.Copy(), nil
}

// joining checks that the container may join the network.
func (m *Manager) joining(containerID, name string, s *network.EndpointSettings) (*attachment, *wanted, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, err := m.want(name, s)
	if err != nil {
		return nil, nil, err
	}
	a := m.attached[containerID]
	switch {
	case a == nil:
		return nil, nil, fmt.Errorf("container sharing network namespace with another container or host cannot be connected to any other network: %w", errdefs.ErrInvalidArgument)
	case a.on(w.lan) != nil:
		return nil, nil, fmt.Errorf("endpoint with name %s already exists in network %s: %w", a.label(), w.lan.Name, errdefs.ErrPermissionDenied)
	case w.lan == m.none || a.on(m.none) != nil:
		return nil, nil, fmt.Errorf("container cannot be connected to multiple networks with one of the networks in private (none) mode: %w", errdefs.ErrInvalidArgument)
	}
	return a, w, nil
}

// Disconnect takes a container that runs off a network, and returns the network's name. The last one may go, too. Of a
// container that is not on it, an errdefs.ErrPermissionDenied says so, as docker does. Without process (the container is
// gone, or cannot be entered) what the host has of it is removed.
func (m *Manager) Disconnect(ctx context.Context, containerID, name string, process *os.File) (string, *network.EndpointSettings, error) {
	m.mu.Lock()
	l, err := m.find(name)
	a := m.attached[containerID]
	var e *endpoint
	if err == nil && a != nil {
		e = a.on(l)
	}
	m.mu.Unlock()
	switch {
	case err != nil:
		return "", nil, err
	case e == nil:
		return "", nil, fmt.Errorf("container %s is not connected to network %s: %w", containerID, l.Name, errdefs.ErrPermissionDenied)
	}
	v, err := m.visit(process)
	if err != nil {
		return "", nil, err
	}
	defer v.close()
	var left []*endpoint
	for _, o := range a.ends {
		if o != e {
			left = append(left, o)
		}
	}
	m.unnameEndpoint(a, e)
	err = errors.Join(m.rewire(a, left, v), m.unplug(v, e))
	m.vacateSeat(a, e)
	return l.Name, e.settings, err
}

// rewire makes ends those of the container: its default routes and its published ports follow.
func (m *Manager) rewire(a *attachment, ends []*endpoint, v *visit) error {
	was4, was6 := route(a.ends)
	way4, way6 := route(ends)
	old := a.targets(a.ports)
	m.mu.Lock()
	a.ends, a.way4, a.way6 = ends, way4, way6
	a.ways()
	m.mu.Unlock()
	var msgs []*message
	if way4 != was4 {
		msgs = append(msgs, v.reroute(way4, false)...)
	}
	if way6 != was6 {
		msgs = append(msgs, v.reroute(way6, true)...)
	}
	if len(msgs) > 0 {
		// A route that is gone already need not be removed.
		if err := v.rt.do(msgs...); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return m.repoint(a, old)
}

// repoint has the ports follow the container to where it is reached now.
func (m *Manager) repoint(a *attachment, old map[firewall.Ports]firewall.Target) error {
	next := a.targets(a.ports)
	if maps.Equal(old, next) {
		return nil
	}
	err := m.fw.Replace(old, next)
	if hasUDP(a.ports) {
		m.forgetUDP(a, a.ports)
	}
	return err
}

// unplug removes the endpoint's interface.
func (m *Manager) unplug(v *visit, e *endpoint) error {
	if e.veth != "" {
		return m.rt.remove(e.veth)
	}
	if index := v.index(e); index != 0 {
		return v.rt.do(newMessage("remove "+e.ifName, unix.RTM_DELLINK, 0).link(int32(index), 0, 0))
	}
	return nil
}

// visit is a look into a container's network namespace.
type visit struct {
	ns    *os.File
	rt    *rtnl
	links []net.Interface
	addrs map[netip.Addr]int // the index of the interface that has it
}

func (m *Manager) visit(process *os.File) (*visit, error) {
	v := &visit{addrs: map[netip.Addr]int{}}
	err := inNS(m.host, process, func() (err error) {
		if v.ns, err = currentNS(); err != nil {
			return err
		}
		if v.rt, err = dialRtnl(); err != nil {
			return err
		}
		return v.look()
	})
	if err != nil {
		v.close()
		return nil, fmt.Errorf("look into the container's network namespace: %w", err)
	}
	return v, nil
}

func (v *visit) look() (err error) {
	if v.links, err = net.Interfaces(); err != nil {
		return err
	}
	for i := range v.links {
		addrs, err := v.links[i].Addrs()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				v.addrs[toPrefix(n).Addr()] = v.links[i].Index
			}
		}
	}
	return nil
}

func (v *visit) close() {
	if v.rt != nil {
		v.rt.close()
	}
	if v.ns != nil {
		v.ns.Close()
	}
}

// name gives the endpoint a name that no interface has there.
func (v *visit) name(e *endpoint) {
	if e.ifName != "" {
		return
	}
	others := []*endpoint{e}
	for _, l := range v.links {
		others = append(others, &endpoint{ifName: l.Name})
	}
	nameInterfaces(others)
}

// index of the endpoint's interface: the daemon that made it may have been another one.
func (v *visit) index(e *endpoint) int {
	if e.index != 0 {
		return e.index
	}
	if i := v.addrs[e.addr.Addr()]; i != 0 {
		return i
	}
	return v.addrs[e.addr6.Addr()]
}

// reroute leads the default route through the endpoint, or nowhere.
func (v *visit) reroute(way *endpoint, six bool) []*message {
	if way == nil {
		return []*message{noDefaultRoute(six)}
	}
	via := way.via
	if six {
		via = way.via6
	}
	return []*message{noDefaultRoute(six), defaultRoute(v.index(way), via, six)}
}

// Rename tells networks and name servers of a container's new name.
func (m *Manager) Rename(containerID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.attached[containerID]
	if a == nil {
		return
	}
	a.name = name
	m.ports.pass(a.ports, a.label())
	for _, e := range a.ends {
		var aliases []string
		if e.settings != nil {
			aliases = e.settings.Aliases
		}
		renamed := *e
		renamed.owner = a.label()
		renamed.name(a, aliases)
		e.owner, e.names = renamed.owner, renamed.names
		if e.settings != nil {
			e.settings.DNSNames = e.names
		}
		m.nameEndpoint(a, e)
	}
}
