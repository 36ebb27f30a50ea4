package firewall

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// Firewall keeps the kernel's table equal to the one in memory.
type Firewall struct {
	host *os.File // the network namespace

	mu     sync.Mutex // guards what follows, and makes the order of the kernel's changes that of the memory's
	conn   *nftables.Conn
	portID uint32 // the socket's, by which its own changes are known among all
	table  Table
}

// elementsPerMessage keeps a message's list of elements below what an attribute can hold (64 KiB).
const elementsPerMessage = 500

// Open connects to the kernel of the network namespace. The table is not made yet.
func Open(host *os.File, t Table) (*Firewall, error) {
	if t.Ports == nil {
		t.Ports = map[Ports]Target{}
	}
	f := &Firewall{host: host, table: t}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Firewall) open() error {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(f.host.Fd())), nftables.WithSockOptions(f.prepare))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	f.conn = conn
	return nil
}

// prepare learns the socket's port id and lets it send as much at once as ten thousand ports are, and receive what the kernel
// answers to it: for each rule an echo of it comes back, and all of them are there before the first one is read.
func (f *Firewall) prepare(c *netlink.Conn) error {
	const batch = 8 << 20
	if err := errors.Join(c.SetWriteBuffer(batch), c.SetReadBuffer(4*batch)); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		if sa, err := unix.Getsockname(int(fd)); err == nil {
			if nl, ok := sa.(*unix.SockaddrNetlink); ok {
				f.portID = nl.Pid
			}
		}
	})
}

// Close leaves the table as it is.
func (f *Firewall) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn.CloseLasting()
}

// Exists says whether the table is in the kernel.
func (f *Firewall) Exists() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	tables, err := f.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list firewall tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == f.table.Name {
			return true, nil
		}
	}
	return false, nil
}

// Renew replaces the whole table in one transaction: no packet sees it half made.
func (f *Firewall) Renew() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.renewLocked()
}

// Set replaces the ports and renews.
func (f *Firewall) Set(ports map[Ports]Target) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.Ports = maps.Clone(ports)
	return f.renewLocked()
}

// SetBridges replaces the bridges and renews.
func (f *Firewall) SetBridges(bridges []Bridge) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.table.Bridges
	f.table.Bridges = slices.Clone(bridges)
	err := f.renewLocked()
	if err != nil {
		f.table.Bridges = before
	}
	return err
}

// Replace withdraws ports and publishes others in one transaction: those that are in both never fail to answer.
func (f *Firewall) Replace(old, next map[Ports]Target) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.elements(old, f.conn.SetDeleteElements); err != nil {
		return err
	}
	if err := f.elements(next, f.conn.SetAddElements); err != nil {
		return err
	}
	f.forget(old)
	maps.Copy(f.table.Ports, next)
	if f.flush("change ports") == nil {
		return nil
	}
	return f.renewLocked()
}

func (f *Firewall) renewLocked() error {
	t := f.kernelTable()
	f.conn.AddTable(t) // so that there is one to delete
	f.conn.DelTable(t)
	f.conn.AddTable(t)
	for i := range portMaps {
		if err := f.conn.AddSet(portMaps[i].kernelSet(t, uint32(i+1)), nil); err != nil {
			return fmt.Errorf("render firewall maps: %w", err)
		}
	}
	chains := f.table.chains()
	made := map[string]*nftables.Chain{}
	for _, c := range chains {
		k := &nftables.Chain{Name: c.name, Table: t, Type: c.kind, Hooknum: c.hook, Priority: c.priority}
		if c.hook != nil {
			accept := nftables.ChainPolicyAccept
			k.Policy = &accept
		}
		made[c.name] = f.conn.AddChain(k)
	}
	for _, c := range chains {
		for _, r := range c.rules {
			f.conn.AddRule(&nftables.Rule{Table: t, Chain: made[c.name], Exprs: r.exprs})
		}
	}
	if err := f.elements(f.table.Ports, f.conn.SetAddElements); err != nil {
		return err
	}
	return f.flush("write firewall table " + f.table.Name)
}

// Publish adds ports. A port that is there already goes to its new target.
func (f *Firewall) Publish(ports map[Ports]Target) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.elements(ports, f.conn.SetAddElements); err != nil {
		return err
	}
	maps.Copy(f.table.Ports, ports)
	if f.flush("publish ports") == nil {
		return nil
	}
	// Somebody took the table away, or it holds what memory does not know: it is made anew, these ports included.
	err := f.renewLocked()
	if err != nil {
		f.forget(ports)
	}
	return err
}

// Withdraw removes ports.
func (f *Firewall) Withdraw(ports map[Ports]Target) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(ports)
	if err := f.elements(ports, f.conn.SetDeleteElements); err != nil {
		return err
	}
	if f.flush("withdraw ports") == nil {
		return nil
	}
	return f.renewLocked()
}

// Move removes ports and adds others, in one step: there is no moment in which one that is in both leads nowhere.
func (f *Firewall) Move(gone, come map[Ports]Target) error {
	if len(gone) == 0 {
		return f.Publish(come)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.elements(gone, f.conn.SetDeleteElements); err != nil {
		return err
	}
	if err := f.elements(come, f.conn.SetAddElements); err != nil {
		return err
	}
	f.forget(gone)
	maps.Copy(f.table.Ports, come)
	if f.flush("move ports") == nil {
		return nil
	}
	// As in Publish.
	err := f.renewLocked()
	if err != nil {
		f.forget(come)
		maps.Copy(f.table.Ports, gone)
	}
	return err
}

func (f *Firewall) forget(ports map[Ports]Target) {
	for k := range ports {
		delete(f.table.Ports, k)
	}
}

// Remove takes the table out of the kernel.
func (f *Firewall) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn.AddTable(f.kernelTable())
	f.conn.DelTable(f.kernelTable())
	return f.flush("remove firewall table " + f.table.Name)
}

func (f *Firewall) kernelTable() *nftables.Table {
	return &nftables.Table{Name: f.table.Name, Family: nftables.TableFamilyINet}
}

// elements queues a change of the maps, in messages that are not too long.
func (f *Firewall) elements(ports map[Ports]Target, change func(*nftables.Set, []nftables.SetElement) error) error {
	for i := range portMaps {
		set := portMaps[i].kernelSet(f.kernelTable(), uint32(i+1))
		for list := portMaps[i].elements(ports); len(list) > 0; {
			n := min(len(list), elementsPerMessage)
			if err := change(set, list[:n]); err != nil {
				return fmt.Errorf("render firewall elements: %w", err)
			}
			list = list[n:]
		}
	}
	return nil
}

// flush sends what is queued. After a failure the socket may hold answers that were not read: it is replaced.
func (f *Firewall) flush(what string) error {
	err := f.conn.Flush()
	if err == nil {
		return nil
	}
	_ = f.conn.CloseLasting()
	return errors.Join(Explain(fmt.Errorf("%s: %w", what, err)), f.open())
}

// Explain says of an error what it means if it is that of a kernel that cannot do what the table needs. (The library joins the
// answers to all messages; that the table is missing, for those after the first, says nothing.)
func Explain(err error) error {
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EPROTONOSUPPORT) {
		return err
	}
	return &fault.Error{
		Code: "no-nftables", What: "this kernel's nftables cannot hold kist's rules", Class: errdefs.ErrNotImplemented, Err: err,
		Cause: "it has no tables of the family inet, or none with maps and NAT (CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET)",
		Try:   "a kernel of the distribution, or kistd --bridge=none (containers then have --network none, host, or another container's)",
	}
}

// Chains lists the chains of all tables, everybody's.
func (f *Firewall) Chains() ([]*nftables.Chain, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn.ListChains()
}

// Ports returns what is published.
func (f *Firewall) Ports() map[Ports]Target {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.table.Ports)
}
