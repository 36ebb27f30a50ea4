package network

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/filter"
)

// List is docker network ls. User networks are not served yet: what would make, join or leave one is refused with an
// errdefs.ErrNotImplemented that says so.
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
	list := []network.Inspect{}
	// The predefined networks are never dangling, and all of type builtin.
	if f.Has("dangling") && dangling || !f.Exact("type", "builtin") {
		return list, nil
	}
	for _, n := range m.all() {
		if f.Match("name", n.Name) && f.Match("id", n.ID) && f.Exact("driver", n.Driver) && f.Exact("scope", n.Scope) && f.Labels("label", n.Labels) {
			n.Containers = map[string]network.EndpointResource{} // as docker's list
			list = append(list, n)
		}
	}
	return list, nil
}

// Inspect finds a network by name, id or unique prefix.
func (m *Manager) Inspect(ctx context.Context, name string) (*network.Inspect, error) {
	var found []network.Inspect
	for _, n := range m.all() {
		if n.Name == name || n.ID == name {
			return &n, nil
		}
		if name != "" && strings.HasPrefix(n.ID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("network %s not found: %w", name, errdefs.ErrNotFound)
	case 1:
		return &found[0], nil
	}
	return nil, fmt.Errorf("network %s is ambiguous (%d matches found on ID prefix): %w", name, len(found), errdefs.ErrInvalidArgument)
}

// Create is refused.
func (m *Manager) Create(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	switch r.Name {
	case "":
		return network.CreateResponse{}, fmt.Errorf("invalid name: name is empty: %w", errdefs.ErrInvalidArgument)
	case network.NetworkBridge, network.NetworkHost, network.NetworkNone:
		return network.CreateResponse{}, fmt.Errorf("operation is not permitted on predefined %s network: %w", r.Name, errdefs.ErrPermissionDenied)
	}
	return network.CreateResponse{}, notServed("cannot create the network " + r.Name)
}

// Remove is refused: there are only predefined networks.
func (m *Manager) Remove(ctx context.Context, name string) error {
	n, err := m.Inspect(ctx, name)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", n.Name, errdefs.ErrPermissionDenied)
}

// Connect is refused.
func (m *Manager) Connect(ctx context.Context, name, containerID string, e *network.EndpointSettings) error {
	if _, err := m.Inspect(ctx, name); err != nil {
		return err
	}
	return notServed("cannot connect a container to the network " + name)
}

// Disconnect is refused.
func (m *Manager) Disconnect(ctx context.Context, name, containerID string, force bool) error {
	if _, err := m.Inspect(ctx, name); err != nil {
		return err
	}
	return notServed("cannot disconnect a container from the network " + name)
}

// Prune removes nothing: there are only predefined networks.
func (m *Manager) Prune(ctx context.Context, f filter.Args) (network.PruneReport, error) {
	return network.PruneReport{NetworksDeleted: []string{}}, f.Validate("label", "label!", "until")
}

func notServed(what string) error {
	return &fault.Error{Code: "user-networks", What: what, Cause: "user networks are not served yet", Class: errdefs.ErrNotImplemented}
}

// all are the networks in docker's shape, by name.
func (m *Manager) all() []network.Inspect {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []network.Inspect
	if m.bridge != nil {
		b := m.predefined(network.NetworkBridge, "bridge")
		b.IPAM.Config = []network.IPAMConfig{{Subnet: m.bridge.addr.Masked(), Gateway: m.bridge.addr.Addr()}}
		b.Options = map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           "true",
			"com.docker.network.bridge.enable_ip_masquerade": "true",
			"com.docker.network.bridge.host_binding_ipv4":    "0.0.0.0",
			"com.docker.network.bridge.name":                 m.bridge.name,
			"com.docker.network.driver.mtu":                  strconv.Itoa(m.bridge.mtu),
		}
		list = append(list, b)
	}
	return append(list, m.predefined(network.NetworkHost, "host"), m.predefined(network.NetworkNone, "null"))
}

func (m *Manager) predefined(name, driver string) network.Inspect {
	n := network.Inspect{
		Network: network.Network{
			Name: name, ID: m.c.networkID(name), Created: m.opened, Scope: "local", Driver: driver, EnableIPv4: true,
			IPAM:    network.IPAM{Driver: "default"},
			Options: map[string]string{}, Labels: map[string]string{},
		},
		Containers: map[string]network.EndpointResource{},
	}
	for id, a := range m.attached {
		if a.network != name {
			continue
		}
		r := network.EndpointResource{Name: a.name, EndpointID: a.endpoint.id, MacAddress: a.mac}
		if a.addr.IsValid() {
			r.IPv4Address = a.addr
		}
		n.Containers[id] = r
	}
	return n
}

// Gateway is the host's address on the default bridge, for host-gateway; invalid without a bridge.
func (m *Manager) Gateway() netip.Addr {
	if m.bridge == nil {
		return netip.Addr{}
	}
	return m.bridge.addr.Addr()
}
