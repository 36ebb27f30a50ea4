package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/dns"
	"github.com/kistdev/kist/internal/undo"
)

// shortLinger is how long the names of a container answer after its end if nothing has said that it will be back. One with
// a restart policy has as long as its address is kept for it.
const shortLinger = 10 * time.Second

// wantsNames says whether the name server answers the container: on users' networks, and on the default bridge where the
// host's resolvers are out of a container's reach. Elsewhere a container asks those itself, as docker has it, for which no
// daemon is needed.
func (m *Manager) wantsNames(a *attachment) bool {
	if m.names == nil {
		return false
	}
	return slices.ContainsFunc(a.ends, func(e *endpoint) bool {
		return !e.lan.predefined || e.lan == m.lan && len(a.servers) == 0 && !hostReachable()
	})
}

// serveNames answers the container's questions, if it is to be answered, and makes it known to its neighbours. It returns
// copies of its sockets, for whoever keeps them open beside the daemon.
func (m *Manager) serveNames(u *undo.Stack, a *attachment, ns *os.File) ([]int, error) {
	if m.wantsNames(a) {
		sockets, err := m.listenIn(ns, a.ownNames)
		if err != nil {
			return nil, err
		}
		if err := m.serve(u, a, sockets); err != nil {
			return nil, err
		}
	}
	for _, e := range a.ends {
		m.nameEndpoint(a, e)
	}
	u.Push("forget names", func(context.Context) error { m.forgetNames(a.id); return nil })
	return a.takeFresh(), nil
}

// serve hands the sockets to the name server, and keeps copies.
func (m *Manager) serve(u *undo.Stack, a *attachment, sockets dns.Sockets) error {
	copies, err := sockets.Dup()
	if err != nil {
		sockets.Close()
		return err
	}
	if err := m.names.Serve(a.id, sockets, dns.Client{Servers: a.servers}); err != nil {
		copies.Close()
		return err
	}
	a.served, a.fresh = true, copies
	u.Push("end name service", func(context.Context) error {
		copies.Close()
		m.names.Forget(a.id)
		a.served, a.fresh = false, dns.Sockets{}
		return nil
	})
	return nil
}

// takeFresh gives the copies of the sockets away, once.
func (a *attachment) takeFresh() []int {
	if !a.fresh.Open() {
		return nil
	}
	list := []int{a.fresh.UDP, a.fresh.TCP}
	a.fresh = dns.Sockets{}
	return list
}

// serveLater begins to answer a container that has joined its first network with names while it runs.
func (m *Manager) serveLater(u *undo.Stack, a *attachment, ns *os.File) error {
	if a.served || !m.wantsNames(a) {
		return nil
	}
	sockets, err := m.listenIn(ns, a.ownNames)
	if err != nil {
		return err
	}
	if err := m.serve(u, a, sockets); err != nil {
		return err
	}
	for _, e := range a.ends {
		m.nameEndpoint(a, e)
	}
	return nil
}

// Resolv is the resolv.conf of a container that runs, and its name server's sockets if they are new since Join (Connect):
// copies, to be kept open while the container runs; the caller's.
func (m *Manager) Resolv(containerID string) (c ResolvConf, served bool, sockets []int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err = m.HostResolv()
	a := m.attached[containerID]
	if err != nil || a == nil || !a.served {
		return c, false, nil, err
	}
	return a.resolv(c), true, a.takeFresh(), nil
}

// resumeNames goes on answering the containers that ran on while there was no daemon: when all of them are known, or one
// would hear that another does not exist.
func (m *Manager) resumeNames(list []*attachment, running []Held) {
	for i, a := range list {
		a.served = m.names != nil && (len(running[i].Sockets) == 2 || m.wantsNames(a))
		for _, e := range a.ends {
			m.nameEndpoint(a, e)
		}
	}
	for i, a := range list {
		if err := m.resume(a, &running[i]); err != nil {
			slog.Warn("a running container has no name server", "container", a.label(), "error", err)
		}
	}
}

func (m *Manager) resume(a *attachment, h *Held) error {
	if a.served && len(h.Sockets) == 2 {
		return m.names.Serve(a.id, dns.Sockets{UDP: h.Sockets[0], TCP: h.Sockets[1]}, dns.Client{Servers: a.servers})
	}
	closeAll(h.Sockets)
	if !a.served {
		return nil
	}
	// Nobody has kept them open, so that they are gone.
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.PID))
	if err != nil {
		return fmt.Errorf("name server: %w", err)
	}
	defer ns.Close()
	sockets, err := m.listenIn(ns, a.ownNames)
	if err != nil {
		return err
	}
	return m.names.Serve(a.id, sockets, dns.Client{Servers: a.servers})
}

func closeAll(fds []int) {
	for _, fd := range fds {
		dns.Sockets{UDP: fd}.Close()
	}
}

// listenIn opens the sockets in the namespace: beside port 53 if the container means to have that itself, or has it.
func (m *Manager) listenIn(ns *os.File, aside bool) (s dns.Sockets, err error) {
	if !aside {
		err = inNS(m.host, ns, func() error {
			s, err = dns.Listen()
			return err
		})
		if !errors.Is(err, unix.EADDRINUSE) {
			return s, err
		}
	}
	return m.listenAside(ns)
}

// nameEndpoint makes the endpoint's names known on its network, in place of those it had.
func (m *Manager) nameEndpoint(a *attachment, e *endpoint) {
	if m.names == nil || e.lan == m.none || e.lan.predefined && !a.served {
		return
	}
	m.names.PutNetwork(e.lan.zone())
	n := dns.Endpoint{Container: a.id, Network: e.lan.ID, Names: e.names, Links: e.links}
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
	if m.names == nil || !a.served {
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

func (m *Manager) forgetNames(containerID string) {
	if m.names != nil {
		m.names.Forget(containerID)
	}
}

// zone is what the name server must know of the network.
func (l *lan) zone() dns.Network {
	n := dns.Network{ID: l.ID, Name: l.Name, Internal: l.Internal, Subnets: l.subnets()}
	for _, p := range l.hostAddresses() {
		n.Gateways = append(n.Gateways, p.Addr())
	}
	return n
}
