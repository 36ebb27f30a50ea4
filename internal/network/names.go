package network

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/dns"
	"github.com/kistdev/kist/internal/undo"
)

// shortLinger is how long the names of a container answer after its end if nothing has said that it will be back. One with
// a restart policy has as long as its address is kept for it.
const shortLinger = 10 * time.Second

// listen opens the sockets of the name server in the namespace of the calling thread.
func (p *parked) listen() (err error) {
	p.sockets, err = dns.Listen()
	return err
}

// close gives the namespace up.
func (p *parked) close() {
	p.sockets.Close()
	p.ns.Close()
}

// takeSockets makes the sockets of a namespace those of the container that got it.
func (a *attachment) takeSockets(u *undo.Stack, p *parked) {
	a.sockets, p.sockets = p.sockets, dns.Sockets{}
	u.Push("close sockets", func(context.Context) error { a.sockets.Close(); return nil })
}

// serveNames makes the container known to its neighbours and answers its questions. It returns copies of its sockets, for
// whoever keeps them open beside the daemon. A container without a network has nobody to ask for.
func (m *Manager) serveNames(u *undo.Stack, a *attachment, ns *os.File, r *JoinRequest) (_ []int, err error) {
	if m.names == nil || len(a.ends) == 1 && a.ends[0].lan == m.none {
		a.sockets.Close()
		a.sockets = dns.Sockets{}
		return nil, nil
	}
	if r.servesNames() {
		a.sockets.Close()
		if a.sockets, err = m.listenAside(ns); err != nil {
			return nil, err
		}
	}
	copies, err := a.sockets.Dup()
	if err != nil {
		return nil, err
	}
	u.Push("close copies of sockets", func(context.Context) error { copies.Close(); return nil })
	u.Push("forget names", func(context.Context) error { m.names.Forget(a.id); return nil })
	sockets := a.sockets
	a.sockets = dns.Sockets{}
	if err := m.names.Serve(a.id, sockets, dns.Client{Servers: r.Servers}); err != nil {
		return nil, err
	}
	for _, e := range a.ends {
		m.nameEndpoint(a, e)
	}
	return []int{copies.UDP, copies.TCP}, nil
}

// resumeNames goes on answering a container that ran on while there was no daemon.
func (m *Manager) resumeNames(a *attachment, h *Held) error {
	if m.names == nil || len(a.ends) == 0 || len(a.ends) == 1 && a.ends[0].lan == m.none {
		closeAll(h.Sockets)
		return nil
	}
	for _, e := range a.ends {
		m.nameEndpoint(a, e)
	}
	if len(h.Sockets) == 2 {
		return m.names.Serve(a.id, dns.Sockets{UDP: h.Sockets[0], TCP: h.Sockets[1]}, dns.Client{Servers: h.Servers})
	}
	closeAll(h.Sockets)
	// Nobody has kept them open, so that they are gone.
	sockets, err := m.listenIn(h.PID, exposes(h.Ports))
	if err != nil {
		return err
	}
	return m.names.Serve(a.id, sockets, dns.Client{Servers: h.Servers})
}

func closeAll(fds []int) {
	for _, fd := range fds {
		dns.Sockets{UDP: fd}.Close()
	}
}

// listenIn opens the sockets in the namespace of a process.
func (m *Manager) listenIn(pid int, aside bool) (s dns.Sockets, err error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return s, fmt.Errorf("name server: %w", err)
	}
	defer ns.Close()
	if aside {
		return m.listenAside(ns)
	}
	err = inNS(m.host, ns, func() error {
		s, err = dns.Listen()
		return err
	})
	return s, err
}

// nameEndpoint makes the endpoint's names known on its network, in place of those it had.
func (m *Manager) nameEndpoint(a *attachment, e *endpoint) {
	if m.names == nil || e.lan == m.none {
		return
	}
	m.names.PutNetwork(e.lan.zone())
	n := dns.Endpoint{Container: a.id, Network: e.lan.ID, Names: e.names, Links: e.links}
	if e.lan.predefined { // docker's default bridge has no names; a container's own does no harm
		n.Names = slices.DeleteFunc([]string{a.name, a.id[:min(12, len(a.id))]}, func(s string) bool { return s == "" })
	}
	for _, p := range []netip.Prefix{e.addr, e.addr6} {
		if p.IsValid() {
			n.Addrs = append(n.Addrs, p.Addr())
		}
	}
	if err := m.names.Connect(n); err != nil {
		slog.Warn("a container's names are not known", "container", a.label(), "error", err)
	}
}

// unnameEndpoint takes its names away at once.
func (m *Manager) unnameEndpoint(a *attachment, e *endpoint) {
	if m.names != nil {
		m.names.Disconnect(a.id, e.lan.ID)
	}
}

// unname ends the service of a container that has ended. Its names answer on for a while where its address is kept for it.
func (m *Manager) unname(a *attachment) {
	if m.names == nil {
		return
	}
	for _, e := range a.ends {
		if e.lan.predefined {
			m.names.Disconnect(a.id, e.lan.ID)
		}
	}
	linger := shortLinger
	if a.restarts {
		linger = keepFor
	}
	m.names.Leave(a.id, linger)
}

// resolv is the container's resolv.conf: the name server is asked, for the host's search domains. On users' networks every
// name is asked for as it is first, as docker has it, or a short one would not be a container's.
func (a *attachment) resolv(host ResolvConf) ResolvConf {
	host.Servers = []netip.Addr{dns.Address}
	users := slices.ContainsFunc(a.ends, func(e *endpoint) bool { return !e.lan.predefined })
	if users && !slices.ContainsFunc(host.Options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		host.Options = append(slices.Clip(host.Options), "ndots:0")
	}
	return host
}

// zone is what the name server must know of the network.
func (l *lan) zone() dns.Network {
	n := dns.Network{ID: l.ID, Name: l.Name, Internal: l.Internal, Subnets: l.subnets()}
	for _, p := range l.hostAddresses() {
		n.Gateways = append(n.Gateways, p.Addr())
	}
	return n
}
