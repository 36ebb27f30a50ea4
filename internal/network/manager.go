package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/dns"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/network/firewall"
	"github.com/kistdev/kist/internal/network/ipam"
	"github.com/kistdev/kist/internal/undo"
)

// Sizes of the pools: of namespaces on the bridge and of those with only a loopback.
const (
	minWired, maxWired = 4, 32
	minBare, maxBare   = 2, 16
)

// Manager owns the networks of one daemon. It is safe for concurrent use.
type Manager struct {
	c     Config
	host  *os.File // the network namespace that all this is for
	ipv6  bool     // the kernel has it
	rows  ledger
	links *netlink.Handle // nil if the daemon may not touch networks, like what follows
	rt    *rtnl
	fw    *firewall.Firewall
	watch *firewall.Watcher
	sweep *sweeper
	names *dns.Server

	opened time.Time

	lan           *lan // the default bridge; nil if disabled
	none, hostLAN *lan // docker's none and host

	ports    reservations
	ethIndex atomic.Int32 // of eth0 in new namespaces; 0 until it is known

	making sync.Mutex // held while networks are made and removed

	mu       sync.Mutex             // guards what follows
	lans     map[string]*lan        // by id
	attached map[string]*attachment // by container id
	wired    *pool                  // nil until Restore
	bare     *pool
}

// Open makes the default bridge, the users' networks and the firewall's table, or takes over those that are there. Nothing
// of a container that runs is interrupted. Restore must be called before the first Join, even if nothing runs.
func Open(ctx context.Context, c Config) (_ *Manager, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	m := &Manager{c: c, opened: time.Now().UTC(), attached: map[string]*attachment{}, lans: map[string]*lan{}}
	if c.DataDir != "" {
		m.rows.path = filepath.Join(c.DataDir, "networks.db")
	}
	_, err = os.Stat("/proc/sys/net/ipv6")
	m.ipv6 = err == nil
	m.none, m.hostLAN = m.predefine(network.NetworkNone, driverNull), m.predefine(network.NetworkHost, driverHost)

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
	u.Push("close rows", func(context.Context) error { return m.rows.close() })
	if c.Disabled {
		return m, nil
	}
	if err = m.openAll(&u); errors.Is(err, unix.EPERM) {
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

// predefine makes one of the networks that are always there.
func (m *Manager) predefine(name, driver string) *lan {
	l := &lan{
		row: row{
			ID: m.c.networkID(name), Name: name, Created: m.opened, Driver: driver, IPv4: true,
			IPAM: network.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: map[string]string{},
		},
		options:    options{ifPrefix: "eth", masquerade: true, gateway4: gatewayNAT, gateway6: gatewayNAT},
		predefined: true, ends: map[string]*endpoint{}, kept: map[string]*keepsake{},
	}
	m.lans[l.ID] = l
	return l
}

func (m *Manager) openAll(u *undo.Stack) (err error) {
	stored, err := m.rows.all()
	if err != nil {
		return err
	}
	if m.links, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return firewall.Explain(fmt.Errorf("open netlink: %w", err))
	}
	u.Push("close netlink", func(context.Context) error { m.links.Close(); return nil })
	if m.rt, err = dialRtnl(); err != nil {
		return err
	}
	u.Push("close route netlink", func(context.Context) error { m.rt.close(); return nil })
	if err := m.openDefault(stored); err != nil {
		return err
	}
	if err := m.openLANs(stored); err != nil {
		return err
	}
	if m.fw, err = firewall.Open(m.host, m.table()); err != nil {
		return err
	}
	u.Push("close firewall", func(context.Context) error { return m.fw.Close() })
	// A table that is there serves the ports of containers that run: it stays as it is until Restore knows them.
	ok, err := m.fw.Exists()
	if err == nil && !ok {
		err = m.fw.Renew()
	}
	if err != nil {
		return err
	}
	if m.sweep, err = newSweeper(m.giveBack); err != nil {
		return err
	}
	u.Push("close sweeper", func(context.Context) error { m.sweep.close(); return nil })
	m.names, err = dns.Open(dns.Config{})
	return err
}

// openDefault makes or finds the default bridge.
func (m *Manager) openDefault(stored []row) error {
	link, addr, err := openBridge(m.links, &m.c, stored)
	if err != nil {
		return err
	}
	l := m.predefine(network.NetworkBridge, driverBridge)
	l.IPAM.Config = []network.IPAMConfig{{Subnet: addr.Masked(), Gateway: addr.Addr()}}
	l.Options = map[string]string{
		optDefault: "true", optICC: "true", optMasquerade: "true", optHostBinding: "0.0.0.0",
		optBridgeName: link.name, optMTU: strconv.Itoa(link.mtu),
	}
	l.v4 = ipam.Group{ipam.NewPool(addr.Masked(), netip.Prefix{}, addr.Addr(), nil)}
	l.link = link
	m.lan = l
	return nil
}

func (m *Manager) table() firewall.Table {
	return firewall.Table{Name: m.c.tableName(), Bridges: m.bridges(), Parts: m.c.partPrefix()}
}

// bridges are those of all networks, the default one first.
func (m *Manager) bridges() []firewall.Bridge {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []firewall.Bridge{m.lan.rules()}
	for _, l := range m.sorted() {
		if l != m.lan && l.link != nil && !l.gone {
			list = append(list, l.rules())
		}
	}
	return list
}

// Close stops the manager's goroutines and its pool. Bridges, rules and containers' wiring stay.
func (m *Manager) Close() error {
	m.stopPools()
	m.mu.Lock()
	for _, a := range m.attached {
		m.ports.release(a.ports)
	}
	m.mu.Unlock()
	errs := []error{m.rows.close()}
	if m.names != nil {
		errs = append(errs, m.names.Close())
	}
	if m.links != nil {
		if m.watch != nil {
			m.watch.Close()
		}
		m.sweep.close()
		m.rt.close()
		m.links.Close()
		errs = append(errs, m.fw.Close())
	}
	return errors.Join(append(errs, m.host.Close())...)
}

// Teardown removes all that the manager made on the host (kistd --teardown, tests); the users' networks are made again by
// the next daemon. Containers that run lose their network. The manager can only be closed afterwards.
func (m *Manager) Teardown(ctx context.Context) error {
	if m.links == nil {
		return nil
	}
	if m.watch != nil {
		m.watch.Close()
		m.watch = nil
	}
	m.stopPools()
	errs := []error{m.fw.Remove(), m.removePorts(nil)}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lans {
		if l.link != nil {
			errs = append(errs, m.takeDown(l.link))
		}
	}
	return errors.Join(errs...)
}

// errNotRestored is a mistake of the caller's.
var errNotRestored = fmt.Errorf("networks are not restored yet: %w", errdefs.ErrUnavailable)
