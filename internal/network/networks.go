package network

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/filter"
)

// List is docker network ls.
func (m *Manager) List(ctx context.Context, f filter.Args) ([]network.Inspect, error) {
	if err := f.Validate("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	for _, t := range f["type"] {
		if t != "builtin" && t != "custom" {
			return nil, fmt.Errorf("invalid filter: 'type'='%s': %w", t, errdefs.ErrInvalidArgument)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []network.Inspect{}
	for _, l := range m.sorted() {
		kind := "custom"
		if l.predefined {
			kind = "builtin"
		}
		if f.Has("dangling") && dangling != (!l.predefined && len(l.ends) == 0) || !f.Exact("type", kind) {
			continue
		}
		if f.Match("name", l.Name) && f.Match("id", l.ID) && f.Exact("driver", l.Driver) && f.Exact("scope", "local") && f.Labels("label", l.Labels) {
			list = append(list, network.Inspect{Network: l.shown(), Containers: map[string]network.EndpointResource{}}) // as docker's list
		}
	}
	return list, nil
}

// Inspect finds a network by name, id or unique prefix.
func (m *Manager) Inspect(ctx context.Context, name string) (*network.Inspect, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.find(name)
	if err != nil {
		return nil, err
	}
	n := &network.Inspect{Network: l.shown(), Containers: map[string]network.EndpointResource{}}
	for id, e := range l.ends {
		n.Containers[id] = network.EndpointResource{Name: e.owner, EndpointID: e.id, MacAddress: e.mac, IPv4Address: e.addr, IPv6Address: e.addr6}
	}
	n.Status = &network.Status{IPAM: network.IPAMStatus{Subnets: l.usage()}}
	return n, nil
}

// shown is the network in docker's shape.
func (l *lan) shown() network.Network {
	n := network.Network{
		Name: l.Name, ID: l.ID, Created: l.Created, Scope: "local", Driver: l.Driver, EnableIPv4: l.IPv4, EnableIPv6: l.IPv6,
		IPAM: l.IPAM, Internal: l.Internal, Attachable: l.Attachable, ConfigOnly: l.ConfigOnly,
		ConfigFrom: network.ConfigReference{Network: l.ConfigFrom}, Options: l.Options, Labels: l.Labels,
	}
	if n.Options == nil {
		n.Options = map[string]string{}
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	if n.IPAM.Options == nil && !l.predefined {
		n.IPAM.Options = map[string]string{}
	}
	return n
}

// usage counts the addresses. Manager.mu is held.
func (l *lan) usage() network.SubnetStatuses {
	all := network.SubnetStatuses{}
	for _, six := range []bool{false, true} {
		for _, p := range l.group(six) {
			used, free := p.Count()
			all[p.Subnet()] = network.SubnetStatus{IPsInUse: used, DynamicIPsAvailable: free}
		}
	}
	return all
}

// Remove removes a network that no container is on.
func (m *Manager) Remove(ctx context.Context, name string) error {
	m.making.Lock()
	defer m.making.Unlock()
	m.mu.Lock()
	l, err := m.find(name)
	if err == nil {
		err = m.removable(l)
	}
	if err != nil {
		m.mu.Unlock()
		return err
	}
	l.gone = true // nobody joins any more
	m.mu.Unlock()
	return m.remove(l)
}

// removable says why a network cannot be removed. m.mu is held.
func (m *Manager) removable(l *lan) error {
	if l.predefined {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", l.Name, errdefs.ErrPermissionDenied)
	}
	if users := l.users(); len(users) > 0 {
		return &fault.Error{
			Code: "network-in-use", What: fmt.Sprintf("cannot remove the network %s: containers use it", l.Name),
			Cause: fmt.Sprintf("network %s has active endpoints: %s", l.Name, some(users)),
			Try:   "kist network disconnect " + l.Name + " " + users[0], Class: errdefs.ErrPermissionDenied,
		}
	}
	for _, o := range m.lans {
		if l.ConfigOnly && o.ConfigFrom == l.Name {
			return fmt.Errorf("configuration network %q is in use by the network %s: %w", l.Name, o.Name, errdefs.ErrPermissionDenied)
		}
	}
	return nil
}

// some names the first of many.
func some(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// remove takes the row first: what is left of a network without one, the next start of the daemon removes. m.making is
// held.
func (m *Manager) remove(l *lan) error {
	if err := m.rows.remove(&l.row); err != nil {
		m.mu.Lock()
		l.gone = false
		m.mu.Unlock()
		return err
	}
	m.mu.Lock()
	delete(m.lans, l.ID)
	m.mu.Unlock()
	if m.names != nil {
		m.names.DropNetwork(l.ID)
	}
	m.emit(events.ActionDestroy, l)
	if err := m.lower(l); err != nil {
		return err
	}
	return m.renewRules(l)
}

// Prune removes the users' networks that no container is on.
func (m *Manager) Prune(ctx context.Context, f filter.Args) (network.PruneReport, error) {
	report := network.PruneReport{NetworksDeleted: []string{}}
	if err := f.Validate("label", "label!", "until"); err != nil {
		return report, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return report, err
	}
	m.making.Lock()
	defer m.making.Unlock()
	var idle []*lan
	m.mu.Lock()
	for _, l := range m.sorted() {
		barred := f.Has("label!") && f.Labels("label!", l.Labels) || !until.IsZero() && !l.Created.Before(until)
		if !l.predefined && m.removable(l) == nil && f.Labels("label", l.Labels) && !barred {
			l.gone = true
			idle = append(idle, l)
		}
	}
	m.mu.Unlock()
	for _, l := range idle {
		if err := m.remove(l); err != nil {
			return report, err
		}
		report.NetworksDeleted = append(report.NetworksDeleted, l.Name)
	}
	if m.c.Events != nil {
		m.c.Events.Emit(events.NetworkEventType, events.ActionPrune, "", map[string]string{"reclaimed": "0"})
	}
	return report, nil
}

// Gateway is the host's address on the default bridge, for host-gateway; invalid without a bridge.
func (m *Manager) Gateway() netip.Addr {
	if m.lan == nil {
		return netip.Addr{}
	}
	return m.lan.v4[0].Gateway()
}

// ID is the id of the network of that name or id; empty for one that is not there.
func (m *Manager) ID(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lans {
		if l.Name == name || l.ID == name {
			return l.ID
		}
	}
	return ""
}

// Kind is the driver of the network with that id; empty for one that is not there.
func (m *Manager) Kind(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.lans[id]; l != nil {
		return l.Driver
	}
	return ""
}

// Check says whether a container could join the network, without joining it.
func (m *Manager) Check(name string, e *network.EndpointSettings) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.want(name, e)
	return err
}

// Resolve finds a network's name by its name, its id or the id's beginning.
func (m *Manager) Resolve(name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.find(name)
	if err != nil {
		return "", err
	}
	return l.Name, nil
}
