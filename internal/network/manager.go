package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/undo"
)

// Sizes of the pools: of namespaces on the bridge and of those with only a loopback.
const (
	minWired, maxWired = 4, 32
	minBare, maxBare   = 2, 16
)

// Manager owns the networks of one daemon. It is safe for concurrent use.
type Manager struct {
	c      Config
	host   *os.File // the network namespace that all this is for
	ipv6   bool     // the kernel has it
	links  *netlink.Handle
	bridge *bridge // nil if disabled, like what follows
	rt     *rtnl
	fw     *firewall
	watch  *watcher
	sweep  *sweeper

	opened time.Time

	ports    reservations
	ethIndex atomic.Int32 // of eth0 in new namespaces

	mu       sync.Mutex // guards what follows
	addrs    *addresses
	attached map[string]*attachment // by container id
	wired    *pool                  // nil until Restore
	bare     *pool
}

// attachment is a container's wiring. One endpoint today; user networks bring more.
type attachment struct {
	id, name string
	endpoint
	settings *network.EndpointSettings
	ports    []published
}

// label names the container in messages.
func (a *attachment) label() string {
	if a.name != "" {
		return a.name
	}
	return a.id[:min(12, len(a.id))]
}

// Open makes the default bridge and the firewall's table, or takes over those that are there. Nothing of a container that
// runs is interrupted. Restore must be called before the first Join, even if nothing runs.
func Open(ctx context.Context, c Config) (_ *Manager, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	m := &Manager{c: c, opened: time.Now().UTC(), attached: map[string]*attachment{}}
	m.ethIndex.Store(preferredEthIndex)
	_, err = os.Stat("/proc/sys/net/ipv6")
	m.ipv6 = err == nil

	var u undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, u.Unwind(ctx))
		}
	}()
	if m.host, err = currentNS(); err != nil {
		return nil, err
	}
	u.Push("close host namespace", func(context.Context) error { return m.host.Close() })
	if c.Disabled {
		return m, nil
	}
	if err = m.openBridgeAndRules(&u); errors.Is(err, unix.EPERM) {
		err = &fault.Error{
			Code: "no-net-admin", What: "cannot set up the default network", Cause: "the kernel does not permit it: " + err.Error(),
			Try: "run the daemon as root, or with --bridge=none", Class: errdefs.ErrPermissionDenied, Err: err,
		}
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Manager) openBridgeAndRules(u *undo.Stack) (err error) {
	if m.links, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	u.Push("close netlink", func(context.Context) error { m.links.Close(); return nil })
	if m.rt, err = dialRtnl(); err != nil {
		return err
	}
	u.Push("close route netlink", func(context.Context) error { m.rt.close(); return nil })
	if m.bridge, err = openBridge(m.links, &m.c); err != nil {
		return err
	}
	m.addrs = newAddresses(m.bridge.addr)
	if m.fw, err = openFirewall(m.host, m.table()); err != nil {
		return err
	}
	u.Push("close firewall", func(context.Context) error { return m.fw.close() })
	// A table that is there serves the ports of containers that run: it stays as it is until Restore knows them.
	ok, err := m.fw.exists()
	if err == nil && !ok {
		err = m.fw.renew()
	}
	if err != nil {
		return err
	}
	if m.sweep, err = newSweeper(m.giveBack); err != nil {
		return err
	}
	return nil
}

func (m *Manager) table() table {
	return table{name: m.c.tableName(), bridges: []bridgeRules{{m.bridge.name, m.bridge.addr.Masked()}}}
}

// Close stops the manager's goroutines and its pool. Bridge, rules and containers' wiring stay.
func (m *Manager) Close() error {
	m.stopPools()
	m.mu.Lock()
	for _, a := range m.attached {
		m.ports.release(a.ports)
	}
	m.mu.Unlock()
	if m.bridge == nil {
		return m.host.Close()
	}
	if m.watch != nil {
		m.watch.close()
	}
	m.sweep.close()
	m.rt.close()
	m.links.Close()
	return errors.Join(m.fw.close(), m.host.Close())
}

// Teardown removes all that the manager made on the host (kistd --teardown, tests). Containers that run lose their
// network. The manager can only be closed afterwards.
func (m *Manager) Teardown(ctx context.Context) error {
	if m.bridge == nil {
		return nil
	}
	if m.watch != nil {
		m.watch.close()
		m.watch = nil
	}
	m.stopPools()
	errs := []error{m.fw.remove(), m.removePorts(nil)}
	if m.bridge.own {
		link, err := m.links.LinkByIndex(m.bridge.index)
		if err == nil {
			err = m.links.LinkDel(link)
		}
		if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
			errs = append(errs, fmt.Errorf("remove bridge %s: %w", m.bridge.name, err))
		}
	}
	return errors.Join(errs...)
}

// takeAddress takes the wanted address, or any if it is invalid. What no container has is had in the end: an address in the
// pool is taken from there, and one that its last holder's veth pair still has is waited for, as when a container with a
// static address restarts.
func (m *Manager) takeAddress(want netip.Addr, owner string) (netip.Addr, error) {
	for deadline := time.Now().Add(patience + time.Second); ; time.Sleep(sweepEvery / 10) {
		addr, err := m.tryAddress(want, owner)
		if err == nil || !m.obtainable(want) || time.Now().After(deadline) {
			return addr, err
		}
		m.vacate(want)
	}
}

// obtainable says whether an address that is taken, or any if it is invalid, is taken by something other than a container.
func (m *Manager) obtainable(want netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	containers := map[string]bool{}
	for _, a := range m.attached {
		containers[a.endpoint.id] = true
	}
	for addr, owner := range m.addrs.taken {
		if (addr == want || !want.IsValid()) && !containers[owner] {
			return true
		}
	}
	return false
}

// vacate makes the address free, or any if it is invalid, if only a namespace in the pool has it.
func (m *Manager) vacate(want netip.Addr) {
	m.mu.Lock()
	wired := m.wired
	m.mu.Unlock()
	if wired == nil {
		return
	}
	p := wired.takeIf(func(p *parked) bool { return p.addr.Addr() == want || !want.IsValid() })
	if p == nil {
		return
	}
	p.ns.Close()
	if m.rt.remove(p.veth) == nil {
		m.giveBack(p.addr.Addr(), p.id)
	} else {
		m.sweep.add(p.endpoint)
	}
}

func (m *Manager) tryAddress(want netip.Addr, owner string) (netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if want.IsValid() {
		return want, m.addrs.claim(want, owner)
	}
	return m.addrs.take(owner)
}

func (m *Manager) giveBack(addr netip.Addr, owner string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs.free(addr, owner)
}

// errNotRestored is a mistake of the caller's.
var errNotRestored = fmt.Errorf("networks are not restored yet: %w", errdefs.ErrUnavailable)
