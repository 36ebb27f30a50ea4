package network

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/undo"
)

// publish reserves the ports and sends what comes to them into the container.
func (m *Manager) publish(u *undo.Stack, a *attachment, r *JoinRequest) ([]published, error) {
	list, err := wishes(r, a.paths())
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
		made = append(made, p...)
	}
	to := a.targets(made)
	if err := m.fw.Publish(to); err != nil {
		return nil, err
	}
	u.Push("withdraw ports", func(context.Context) error { return m.fw.Withdraw(to) })
	if hasUDP(made) {
		m.forgetUDP(a, made)
	}
	return made, nil
}

// Publish changes the published ports of a container that runs, all or nothing: it adds and withdraws bindings, and
// returns all that there are. A port to be withdrawn that names no binding is withdrawn altogether; one that is not
// published is an errdefs.ErrNotFound.
func (m *Manager) Publish(ctx context.Context, containerID string, add, remove network.PortMap) (_ network.PortMap, err error) {
	m.mu.Lock()
	a := m.attached[containerID]
	m.mu.Unlock()
	if a == nil {
		return nil, fmt.Errorf("the container has no network of its own to publish ports of: %w", errdefs.ErrConflict)
	}
	if len(add) > 0 && a.way4 == nil && a.way6 == nil {
		return nil, fmt.Errorf("the container is on no network that the host publishes ports of: %w", errdefs.ErrConflict)
	}
	gone, left, err := withdrawn(a.ports, remove)
	if err != nil {
		return nil, err
	}
	var u undo.Stack
	defer func() {
		if failed := u.Unwind(ctx); failed != nil && err == nil {
			err = failed
		}
	}()
	made, err := m.publish(&u, a, &JoinRequest{Ports: add})
	if err != nil {
		return nil, err
	}
	if err := m.unpublish(a, gone); err != nil {
		return nil, err
	}
	u.Release()
	m.mu.Lock()
	a.ports = append(left, made...)
	m.mu.Unlock()
	return portMap(a.ports, &JoinRequest{}), nil
}

// withdrawn sorts out which published ports are meant. Of several in a row that are held as one, all or none.
func withdrawn(have []published, remove network.PortMap) (gone, left []published, err error) {
	match := map[*published]bool{}
	for _, port := range slices.SortedFunc(maps.Keys(remove), func(a, b network.Port) int { return int(a.Num()) - int(b.Num()) }) {
		found := false
		for i := range have {
			if p := &have[i]; p.is(port, remove[port]) {
				match[p], found = true, true
			}
		}
		if !found {
			return nil, nil, fmt.Errorf("port %s is not published so: %w", port, errdefs.ErrNotFound)
		}
	}
	for i := range have {
		if match[&have[i]] {
			gone = append(gone, have[i])
		} else {
			left = append(left, have[i])
		}
	}
	return gone, left, nil
}

// is says whether the container's port is among those published here, under one of the bindings if there are any.
func (p *published) is(port network.Port, bindings []network.PortBinding) bool {
	if port.Proto() != p.port.Proto() || port.Num() < p.port.Num() || port.Num()-p.port.Num() > p.host.To-p.host.From {
		return false
	}
	host := p.host
	host.From += port.Num() - p.port.Num()
	host.To = host.From
	return len(bindings) == 0 || slices.ContainsFunc(bindings, func(b network.PortBinding) bool {
		return (b.HostPort == "" || b.HostPort == fmt.Sprint(host.From)) && (!b.HostIP.IsValid() || b.HostIP.Unmap() == host.Addr)
	})
}
