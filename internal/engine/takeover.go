package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	dockernet "github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network"
)

// Takeover gives a running container ports and names of another one, without a moment in which a connection to the ports is
// refused. Both keep what they have then across restarts.
func (e *Engine) Takeover(ctx context.Context, name, from string, t network.Takeover) error {
	heir, err := e.index.find(name)
	if err != nil {
		return err
	}
	old, err := e.index.find(from)
	if err != nil {
		return err
	}
	if heir == old {
		return invalid("a container cannot take over from itself")
	}
	release, err := lockBoth(ctx, heir, old)
	if err != nil {
		return err
	}
	defer release()
	for _, c := range []*container{heir, old} {
		d, st := c.look()
		mode := d.HostConfig.NetworkMode
		if !st.Phase.alive() {
			return fmt.Errorf("container %s does not run: %w", d.Name, errdefs.ErrConflict)
		}
		if mode.IsHost() || mode.IsContainer() || mode.IsNone() {
			return invalid("the container %s has no network of its own", d.Name)
		}
	}
	t.Aliases = maps.Clone(t.Aliases)
	for name, list := range t.Aliases {
		full, err := e.networks.Resolve(name)
		if err != nil {
			return err
		}
		if full != name {
			delete(t.Aliases, name)
			t.Aliases[full] = list
		}
	}
	was, is, err := e.networks.Takeover(ctx, old.id, heir.id, t)
	if err != nil {
		return err
	}
	err = errors.Join(
		e.redrawn(heir, is, func(ports dockernet.PortMap) dockernet.PortMap { return joinedPorts(ports, t.Ports) }, t.Aliases, nil),
		e.redrawn(old, was, func(ports dockernet.PortMap) dockernet.PortMap { return lostPorts(ports, t.Ports) }, nil, t.Aliases),
	)
	e.emit(heir, events.ActionUpdate, nil)
	e.emit(old, events.ActionUpdate, nil)
	return err
}

// lockBoth locks two containers, always in the same order.
func lockBoth(ctx context.Context, a, b *container) (release func(), err error) {
	if a.id > b.id {
		a, b = b, a
	}
	if err := a.op.acquire(ctx); err != nil {
		return nil, err
	}
	if err := b.op.acquire(ctx); err != nil {
		a.op.release()
		return nil, err
	}
	return func() {
		b.op.release()
		a.op.release()
	}, nil
}

// redrawn writes down what a container has after a takeover: in its definition what it is to have at its next start, in its
// state what it has. The caller holds the lock.
func (e *Engine) redrawn(c *container, has network.Taken, ports func(dockernet.PortMap) dockernet.PortMap, add, remove map[string][]string) error {
	d, _ := c.look()
	changed := *d
	host := *d.HostConfig
	host.PortBindings = ports(host.PortBindings)
	changed.HostConfig = &host
	changed.Endpoints = maps.Clone(d.Endpoints)
	for name, wish := range d.Endpoints {
		if len(add[name])+len(remove[name]) == 0 {
			continue
		}
		s := wish.Copy()
		if s == nil {
			s = &dockernet.EndpointSettings{}
		}
		s.Aliases = network.Realiased(s.Aliases, add[name], remove[name])
		changed.Endpoints[name] = s
	}
	c.change(func(s *state) {
		s.Ports = has.Ports
		next := map[string]*dockernet.EndpointSettings{}
		maps.Copy(next, s.Networks)
		maps.Copy(next, has.Networks)
		s.Networks = next
	})
	return e.redefine(c, &changed)
}

// joinedPorts are bindings with others added.
func joinedPorts(have, add dockernet.PortMap) dockernet.PortMap {
	next := maps.Clone(have)
	if next == nil {
		next = dockernet.PortMap{}
	}
	for port, more := range add {
		for _, b := range more {
			if !slices.Contains(next[port], b) {
				next[port] = append(slices.Clone(next[port]), b)
			}
		}
	}
	return next
}

// lostPorts are bindings without those on the host's ports that another container has taken.
func lostPorts(have, taken dockernet.PortMap) dockernet.PortMap {
	next := maps.Clone(have)
	for port, list := range next {
		left := slices.DeleteFunc(slices.Clone(list), func(b dockernet.PortBinding) bool {
			for other, theirs := range taken {
				if other.Proto() == port.Proto() && b.HostPort != "" && slices.Contains(theirs, b) {
					return true
				}
			}
			return false
		})
		if next[port] = left; len(left) == 0 && len(list) > 0 {
			delete(next, port)
		}
	}
	return next
}
