package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// ConnectNetwork puts a container on one more network: one that runs at once, any other at its next start.
func (e *Engine) ConnectNetwork(ctx context.Context, name, container string, s *network.EndpointSettings) error {
	c, release, err := e.hold(ctx, container)
	if err != nil {
		return err
	}
	defer release()
	d, st := c.look()
	mode := d.HostConfig.NetworkMode
	switch {
	case st.Phase == removing:
		return e.index.missing(container)
	case mode.IsHost() || mode.IsContainer():
		return fmt.Errorf("container sharing network namespace with another container or host cannot be connected to any other network: %w", errdefs.ErrInvalidArgument)
	}
	if s, err = e.withLinks(s); err != nil {
		return err
	}
	full, err := e.networks.Resolve(name)
	if err == nil {
		err = e.networks.Check(full, s)
	}
	if err != nil {
		return err
	}
	if !st.Phase.alive() {
		if _, there := d.Endpoints[full]; there {
			return fmt.Errorf("endpoint with name %s already exists in network %s: %w", d.Name, full, errdefs.ErrPermissionDenied)
		}
		return e.rewire(c, full, s, nil, true)
	}
	process, ok := e.tasks.PIDFD(c.id)
	if !ok {
		return fmt.Errorf("container %s is about to end: %w", d.Name, errdefs.ErrConflict)
	}
	full, made, err := e.networks.Connect(ctx, c.id, full, s, process)
	if err != nil {
		return err
	}
	if err := e.rewire(c, full, s, made, true); err != nil {
		_, _, undone := e.networks.Disconnect(ctx, c.id, full, process)
		return errors.Join(err, undone)
	}
	e.emitNetworks(c.id, events.ActionConnect, map[string]*network.EndpointSettings{full: made})
	e.rewriteHosts(c)
	e.rewriteResolv(ctx, c)
	return nil
}

// DisconnectNetwork takes a container off a network.
func (e *Engine) DisconnectNetwork(ctx context.Context, name, container string, force bool) error {
	c, release, err := e.hold(ctx, container)
	if err != nil {
		return err
	}
	defer release()
	d, st := c.look()
	if st.Phase == removing {
		return e.index.missing(container)
	}
	if d.HostConfig.NetworkMode.IsHost() {
		return fmt.Errorf("container cannot be disconnected from host network or connected to host network: %w", errdefs.ErrInvalidArgument)
	}
	full, err := e.networks.Resolve(name)
	if errdefs.IsNotFound(err) && d.Endpoints[name] != nil {
		full, err = name, nil // The network is gone, but the container still wants it.
	}
	if err != nil {
		return err
	}
	if !st.Phase.alive() {
		if _, there := d.Endpoints[full]; !there {
			return fmt.Errorf("container %s is not connected to network %s: %w", d.ID, full, errdefs.ErrPermissionDenied)
		}
		return e.rewire(c, full, nil, nil, false)
	}
	process, ok := e.tasks.PIDFD(c.id)
	if !ok {
		return fmt.Errorf("container %s is about to end: %w", d.Name, errdefs.ErrConflict)
	}
	full, was, err := e.networks.Disconnect(ctx, c.id, full, process)
	if err != nil && (!force || was == nil) {
		return err
	}
	if err := e.rewire(c, full, nil, nil, false); err != nil {
		return err
	}
	e.emitNetworks(c.id, events.ActionDisconnect, map[string]*network.EndpointSettings{full: was})
	e.rewriteHosts(c)
	return nil
}

// rewire writes down that the container is on the network, or not any more: in its definition, and of one that runs what
// was made in its state. The caller holds the lock.
func (e *Engine) rewire(c *container, name string, wish, made *network.EndpointSettings, on bool) error {
	d, st := c.look()
	changed := *d
	changed.Endpoints, st.Networks = maps.Clone(d.Endpoints), maps.Clone(st.Networks)
	if changed.Endpoints == nil {
		changed.Endpoints = map[string]*network.EndpointSettings{}
	}
	if on {
		changed.Endpoints[name] = wish
	} else {
		delete(changed.Endpoints, name)
		delete(st.Networks, name)
	}
	if made != nil {
		if st.Networks == nil {
			st.Networks = map[string]*network.EndpointSettings{}
		}
		st.Networks[name] = made
	}
	if err := e.ledger.define(&changed, st); err != nil {
		return err
	}
	c.mu.Lock()
	c.def, c.st = &changed, st
	c.mu.Unlock()
	return nil
}

// rewriteHosts writes the container's hosts file anew, in place: the container has it mounted.
func (e *Engine) rewriteHosts(c *container) {
	d, st := c.look()
	if !st.Phase.alive() || d.HostConfig.NetworkMode.IsHost() || d.HostConfig.NetworkMode.IsContainer() {
		return
	}
	i := e.hostsOf(d, st.Networks)
	var err error
	if i.links, err = e.linkLines(d); err == nil {
		var b []byte
		if b, err = i.hostsFile(); err == nil {
			err = os.WriteFile(e.home(c.id)+"/hosts", b, 0o644) //nolint:gosec // read by any user in the container
		}
	}
	if err != nil {
		slog.Warn("the hosts file of a container could not be renewed", "id", c.id, "error", err)
	}
}

// rewriteResolv has a container ask the daemon's name server that came to be on its first network with names: in place, and
// with the keeper holding the server's sockets.
func (e *Engine) rewriteResolv(ctx context.Context, c *container) {
	r, _, sockets, err := e.networks.Resolv(c.id)
	if err == nil && len(sockets) == 0 {
		return
	}
	if err == nil {
		d, _ := c.look()
		i := identity{config: d.HostConfig, resolv: r, served: true}
		err = errors.Join(
			e.tasks.Hold(ctx, c.id, sockets),
			os.WriteFile(e.home(c.id)+"/resolv.conf", i.resolvConf(), 0o644)) //nolint:gosec // read by any user in the container
	}
	for _, fd := range sockets {
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		slog.Warn("names are not looked up for a container that joined a network", "id", c.id, "error", err)
	}
}

// Publish changes the published ports of a container: of one that runs at once.
func (e *Engine) Publish(ctx context.Context, name string, add, remove network.PortMap) error {
	c, release, err := e.hold(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	d, st := c.look()
	mode := d.HostConfig.NetworkMode
	if mode.IsHost() || mode.IsContainer() || mode.IsNone() {
		return invalid("the container %s has no network of its own to publish ports of", d.Name)
	}
	bindings, err := rebound(d.HostConfig.PortBindings, add, remove, st.Phase.alive())
	if err != nil {
		return err
	}
	host := *d.HostConfig
	host.PortBindings = bindings
	if err := validateHost(&host); err != nil {
		return err
	}
	changed := *d
	changed.HostConfig = &host
	if st.Phase.alive() {
		made, err := e.networks.Publish(ctx, c.id, add, remove)
		if err != nil {
			return err
		}
		st = c.change(func(s *state) { s.Ports = made })
	}
	if err := e.redefine(c, &changed); err != nil {
		return err
	}
	e.emit(c, events.ActionUpdate, nil)
	return nil
}

// rebound is the bindings with some removed and others added. Of a container that does not run, what is not bound cannot be
// removed; of one that does, its network knows better (ports chosen by the host).
func rebound(have, add, remove network.PortMap, alive bool) (network.PortMap, error) {
	next := maps.Clone(have)
	if next == nil {
		next = network.PortMap{}
	}
	for port, gone := range remove {
		left := slices.Clone(next[port])
		if len(gone) == 0 {
			left = nil
		}
		left = slices.DeleteFunc(left, func(b network.PortBinding) bool {
			return slices.ContainsFunc(gone, func(g network.PortBinding) bool {
				// Of a binding whose port the host chose, the definition does not know which.
				chosen := alive && (b.HostPort == "" || strings.Contains(b.HostPort, "-"))
				return (g.HostPort == "" || g.HostPort == b.HostPort || chosen) && (!g.HostIP.IsValid() || g.HostIP == b.HostIP)
			})
		})
		if len(left) == len(next[port]) && !alive {
			return nil, fmt.Errorf("port %s is not published so: %w", port, errdefs.ErrNotFound)
		}
		if next[port] = left; len(left) == 0 {
			delete(next, port)
		}
	}
	for port, more := range add {
		next[port] = append(slices.Clone(next[port]), more...)
	}
	return next, nil
}

// endpoints are the user's wishes for the container's networks, by their full names.
func (e *Engine) endpoints(h *docker.HostConfig, n *network.NetworkingConfig) (map[string]*network.EndpointSettings, error) {
	if h.NetworkMode.IsContainer() {
		return nil, nil
	}
	first, err := e.resolve(h.NetworkMode.NetworkName())
	if err != nil {
		return nil, err
	}
	wishes := map[string]*network.EndpointSettings{first: nil}
	if n == nil {
		return wishes, nil
	}
	for name, ep := range n.EndpointsConfig {
		full, err := e.resolve(name)
		if err != nil {
			return nil, err
		}
		if other := wishes[full]; other != nil {
			return nil, invalid("network %s is named twice", full)
		}
		wishes[full] = ep.Copy()
	}
	if h.NetworkMode.IsHost() {
		return wishes, nil
	}
	for name, ep := range wishes {
		if err := e.networks.Check(name, ep); err != nil {
			return nil, err
		}
	}
	return wishes, nil
}

// resolve finds a network's full name. One that is not there is an error of the request: clients take a missing something
// in the answer to create for the image.
func (e *Engine) resolve(name string) (string, error) {
	full, err := e.networks.Resolve(name)
	if f, ok := fault.As(err); ok && errdefs.IsNotFound(err) {
		f.Class = errdefs.ErrInvalidArgument
		return "", f
	}
	return full, err
}

// primary is the network of the container's mode, if the container is still on it, else another; none if it is on no
// network.
func (e *Engine) primary(d *definition) string {
	name := d.HostConfig.NetworkMode.NetworkName()
	if full, err := e.networks.Resolve(name); err == nil {
		name = full
	}
	if _, there := d.Endpoints[name]; there || d.Endpoints == nil {
		return name
	}
	for _, other := range slices.Sorted(maps.Keys(d.Endpoints)) {
		return other
	}
	return network.NetworkNone
}
