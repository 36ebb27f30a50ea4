package network

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network/firewall"
	"github.com/kistdev/kist/internal/undo"
)

// Takeover is what one running container is to have in place of another one.
type Takeover struct {
	// Ports are bindings. Those that the other one has are taken from it, the rest is published anew.
	Ports network.PortMap
	// Aliases are names by the full name of their network, taken from the other one where it has them.
	Aliases map[string][]string
}

// Taken is what a container has after a takeover.
type Taken struct {
	Ports    network.PortMap
	Networks map[string]*network.EndpointSettings
}

// Takeover gives a container ports and names of another one. Ports change hands in one step: each new connection reaches the one
// container or the other, never none. Those that there are stay with the old one. Names lead to both for a moment.
func (m *Manager) Takeover(ctx context.Context, fromID, toID string, t Takeover) (from, to Taken, err error) {
	m.mu.Lock()
	a, b := m.attached[fromID], m.attached[toID]
	m.mu.Unlock()
	if a == nil || b == nil || a == b {
		return from, to, fmt.Errorf("both containers must run, with networks of their own: %w", errdefs.ErrConflict)
	}
	if len(t.Ports) > 0 && b.way4 == nil && b.way6 == nil {
		return from, to, fmt.Errorf("the container is on no network that the host publishes ports of: %w", errdefs.ErrConflict)
	}
	for name := range t.Aliases {
		if b.onNamed(name) == nil {
			return from, to, fmt.Errorf("the container is not on network %s: %w", name, errdefs.ErrNotFound)
		}
	}
	if err := m.takePorts(ctx, a, b, t.Ports); err != nil {
		return from, to, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, aliases := range t.Aliases {
		m.realias(b, b.onNamed(name), aliases, nil)
	}
	for name, aliases := range t.Aliases {
		m.realias(a, a.onNamed(name), nil, aliases)
	}
	return a.taken(), b.taken(), nil
}

// takePorts moves bindings, and publishes those that the other container does not have.
func (m *Manager) takePorts(ctx context.Context, a, b *attachment, ports network.PortMap) (err error) {
	list, err := wishes(&JoinRequest{Ports: ports}, b.paths())
	if err != nil || len(list) == 0 {
		return err
	}
	gone, moved, rest := divide(a.ports, list)
	var u undo.Stack
	defer func() {
		if failed := u.Unwind(ctx); failed != nil && err == nil {
			err = failed
		}
	}()
	var made []published
	u.Push("release ports", func(context.Context) error { m.ports.release(made); return nil })
	for _, w := range rest {
		p, err := m.ports.reserve(w, b.label())
		if err != nil {
			return err
		}
		made = append(made, p...)
	}
	if err := m.fw.Move(a.targets(gone), b.targets(slices.Concat(moved, made))); err != nil {
		return err
	}
	u.Release()
	m.ports.pass(moved, b.label())
	m.forgetUDP(a, gone)
	m.mu.Lock()
	defer m.mu.Unlock()
	a.ports = slices.DeleteFunc(slices.Clone(a.ports), func(p published) bool {
		return slices.ContainsFunc(gone, func(g published) bool { return g.host == p.host })
	})
	b.ports = slices.Concat(b.ports, moved, made)
	return nil
}

// divide sorts wishes into those that a container has, as they are there and as they are to be, and those that it has not. It is
// pure.
func divide(have []published, list []wish) (gone, moved []published, rest []wish) {
	for _, w := range list {
		for _, addr := range w.addrs {
			want := firewall.Ports{Addr: addr, Proto: w.port.Proto(), From: w.from, To: w.from + w.more}
			i := slices.IndexFunc(have, func(p published) bool { return p.host == want })
			if i < 0 || w.from == 0 || w.from != w.to {
				one := w
				one.addrs = w.addrs[:0:0]
				one.addrs = append(one.addrs, addr)
				rest = append(rest, one)
				continue
			}
			gone = append(gone, have[i])
			moved = append(moved, published{w.port, have[i].host, have[i].sock})
		}
	}
	return gone, moved, rest
}

// pass writes down that ports are another container's.
func (r *reservations) pass(list []published, owner string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range list {
		r.drop(p.host)
		r.hold(p.host, owner)
	}
}

// onNamed is the container's endpoint on the network of a name; nil if there is none.
func (a *attachment) onNamed(name string) *endpoint {
	for _, e := range a.ends {
		if e.lan.Name == name {
			return e
		}
	}
	return nil
}

// realias changes the names of an endpoint that may not be there. The lock is held.
func (m *Manager) realias(a *attachment, e *endpoint, add, remove []string) {
	if e == nil {
		return
	}
	s := e.settings.Copy()
	if s == nil {
		s = &network.EndpointSettings{}
	}
	s.Aliases = Realiased(s.Aliases, add, remove)
	changed := *e
	changed.name(a, s.Aliases)
	e.names = changed.names
	s.DNSNames = e.names
	e.settings = s
	m.nameEndpoint(a, e)
}

// Realiased are aliases with some added and others removed.
func Realiased(have, add, remove []string) []string {
	out := slices.DeleteFunc(slices.Clone(have), func(n string) bool { return slices.Contains(remove, n) || slices.Contains(add, n) })
	return append(out, add...)
}

// taken describes what the container has. The lock is held.
func (a *attachment) taken() Taken {
	t := Taken{Ports: portMap(a.ports, &JoinRequest{}), Networks: map[string]*network.EndpointSettings{}}
	for _, e := range a.ends {
		t.Networks[e.lan.Name] = e.settings.Copy()
	}
	return t
}
