package network

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// firewall keeps the kernel's table equal to the one in memory.
type firewall struct {
	host *os.File // the network namespace

	mu     sync.Mutex // guards what follows, and makes the order of the kernel's changes that of the memory's
	conn   *nftables.Conn
	portID uint32 // the socket's, by which its own changes are known among all
	table  table
}

// elementsPerMessage keeps a message's list of elements below what an attribute can hold (64 KiB).
const elementsPerMessage = 500

func openFirewall(host *os.File, t table) (*firewall, error) {
	if t.ports == nil {
		t.ports = map[hostPort]target{}
	}
	f := &firewall{host: host, table: t}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *firewall) open() error {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(f.host.Fd())), nftables.WithSockOptions(f.prepare))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	f.conn = conn
	return nil
}

// prepare learns the socket's port id and lets it send as much at once as ten thousand ports are.
func (f *firewall) prepare(c *netlink.Conn) error {
	const batch = 8 << 20
	if err := c.SetWriteBuffer(batch); err != nil {
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

func (f *firewall) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn.CloseLasting()
}

// exists says whether the table is in the kernel.
func (f *firewall) exists() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	tables, err := f.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list firewall tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == f.table.name {
			return true, nil
		}
	}
	return false, nil
}

// renew replaces the whole table in one transaction: no packet sees it half made.
func (f *firewall) renew() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.renewLocked()
}

// set replaces the ports and renews.
func (f *firewall) set(ports map[hostPort]target) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.ports = maps.Clone(ports)
	return f.renewLocked()
}

func (f *firewall) renewLocked() error {
	t := f.kernelTable()
	f.conn.AddTable(t) // so that there is one to delete
	f.conn.DelTable(t)
	f.conn.AddTable(t)
	every, one := f.maps()
	if err := errors.Join(f.conn.AddSet(every, nil), f.conn.AddSet(one, nil)); err != nil {
		return fmt.Errorf("render firewall maps: %w", err)
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
	if err := f.elements(f.table.ports, f.conn.SetAddElements); err != nil {
		return err
	}
	return f.flush("write firewall table " + f.table.name)
}

// publish adds ports. A port that is there already goes to its new target.
func (f *firewall) publish(ports map[hostPort]target) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.elements(ports, f.conn.SetAddElements); err != nil {
		return err
	}
	maps.Copy(f.table.ports, ports)
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

// withdraw removes ports.
func (f *firewall) withdraw(ports map[hostPort]target) error {
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

func (f *firewall) forget(ports map[hostPort]target) {
	for k := range ports {
		delete(f.table.ports, k)
	}
}

// remove takes the table out of the kernel.
func (f *firewall) remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn.AddTable(f.kernelTable())
	f.conn.DelTable(f.kernelTable())
	return f.flush("remove firewall table " + f.table.name)
}

func (f *firewall) kernelTable() *nftables.Table {
	return &nftables.Table{Name: f.table.name, Family: nftables.TableFamilyINet}
}

// maps describes the two maps. Their ids matter only within the transaction that makes them.
func (f *firewall) maps() (every, one *nftables.Set) {
	t := f.kernelTable()
	every = &nftables.Set{
		ID: 1, Table: t, Name: mapEvery, IsMap: true, Concatenation: true,
		KeyType: keyOfEvery, DataType: valueOfBoth, KeyByteOrder: binaryutil.BigEndian,
	}
	one = &nftables.Set{
		ID: 2, Table: t, Name: mapOne, IsMap: true, Concatenation: true,
		KeyType: keyOfOne, DataType: valueOfBoth, KeyByteOrder: binaryutil.BigEndian,
	}
	return every, one
}

// elements queues a change of both maps, in messages that are not too long.
func (f *firewall) elements(ports map[hostPort]target, change func(*nftables.Set, []nftables.SetElement) error) error {
	every, one := f.maps()
	inEvery, inOne := split(ports)
	for _, m := range []struct {
		set  *nftables.Set
		list []nftables.SetElement
	}{{every, inEvery}, {one, inOne}} {
		for list := m.list; len(list) > 0; {
			n := min(len(list), elementsPerMessage)
			if err := change(m.set, list[:n]); err != nil {
				return fmt.Errorf("render firewall elements: %w", err)
			}
			list = list[n:]
		}
	}
	return nil
}

// flush sends what is queued. After a failure the socket may hold answers that were not read: it is replaced.
func (f *firewall) flush(what string) error {
	err := f.conn.Flush()
	if err == nil {
		return nil
	}
	_ = f.conn.CloseLasting()
	return errors.Join(fmt.Errorf("%s: %w", what, err), f.open())
}
