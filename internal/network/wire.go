package network

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// wire makes a namespace on the default bridge with any free address, for the pool.
func (m *Manager) wire() (_ *parked, err error) {
	p := &parked{endpoint: endpoint{id: newID(), lan: m.lan, ifName: containerIfName}}
	m.mu.Lock()
	p.addr, p.via, err = m.lan.tryLease(false, netip.Addr{}, p.id)
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p.veth, p.mac = m.c.vethName(p.id), macOf(p.addr.Addr())
	var inside *rtnl
	p.ns, err = inNewNS(m.host, func() error {
		if inside, err = dialRtnl(); err != nil {
			return err
		}
		if p.index, err = m.firstIndex(); err != nil {
			return err
		}
		return setSysctls(defaultSysctls)
	})
	if inside != nil {
		defer inside.close()
	}
	if err == nil {
		err = m.connect(p.ns, inside, []*endpoint{&p.endpoint}, &p.endpoint, nil)
	}
	if err != nil {
		if p.ns != nil {
			p.ns.Close()
		}
		m.giveBack(&p.endpoint)
		return nil, err
	}
	return p, nil
}

// connect makes the interfaces of the endpoints in the namespace and sets them up, with the default routes through two of
// them, or none. A pair that is left half made goes with the namespace.
func (m *Manager) connect(ns *os.File, inside *rtnl, ends []*endpoint, way4, way6 *endpoint) error {
	msgs := []*message{linkUp("lo", loopbackIndex)}
	for _, e := range ends {
		if err := m.plug(ns, e); err != nil {
			return err
		}
		if m.ipv6 {
			msgs = append(msgs, linkQuiet(e.ifName, e.index))
		}
		msgs = append(msgs, linkUp(e.ifName, e.index))
		if e.addr.IsValid() {
			msgs = append(msgs, addrAdd(e.index, e.addr))
		}
		if e.addr6.IsValid() {
			msgs = append(msgs, addrAdd(e.index, linkLocal(e.mac)), addrAdd(e.index, e.addr6))
		}
	}
	if way4 != nil {
		msgs = append(msgs, defaultRoute(way4.index, way4.via, false))
	}
	if way6 != nil {
		msgs = append(msgs, defaultRoute(way6.index, way6.via6, true))
	}
	if err := inside.do(msgs...); err != nil {
		return err
	}
	var look []*message
	for _, e := range ends {
		if e.veth != "" {
			look = append(look, linkSync(e.veth), linkSync(e.port.name))
		}
	}
	if len(look) == 0 {
		return nil
	}
	return m.rt.do(look...)
}

// plug makes the endpoint's interface.
func (m *Manager) plug(ns *os.File, e *endpoint) error {
	if !e.lan.wired() {
		return m.plugSublink(ns, e)
	}
	for {
		var err error
		if e.port == nil {
			if e.port, err = m.seat(e.lan.link); err != nil {
				return err
			}
		}
		if err = m.rt.do(m.pair(ns, e)...); !errors.Is(err, unix.EXFULL) {
			return m.found(ns, e, err)
		}
		e.lan.link.full(e.port)
		e.port = nil
	}
}

// found learns the index of an interface in a namespace that others have used.
func (m *Manager) found(ns *os.File, e *endpoint, err error) error {
	if err != nil || e.index != 0 {
		return err
	}
	return inNS(m.host, ns, func() error {
		i, err := net.InterfaceByName(e.ifName)
		if err == nil {
			e.index = i.Index
		}
		return err
	})
}

// firstIndex is what the kernel gives to the first interface of a new namespace, in which the calling thread is: some kernels
// put devices of their own into each (sit0, tunl0).
func (m *Manager) firstIndex() (int, error) {
	if i := m.ethIndex.Load(); i != 0 {
		return int(i), nil
	}
	links, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	next := 0
	for _, l := range links {
		next = max(next, l.Index+1)
	}
	m.ethIndex.Store(int32(next))
	return next, nil
}

func (m *Manager) pair(ns *os.File, e *endpoint) []*message {
	b := e.lan.link
	msgs := []*message{vethPair(e.veth, e.port.index, farEnd{ns: int(ns.Fd()), name: e.ifName, mac: e.mac, mtu: b.mtu})}
	if hairpin := bridgeFilters(); m.ipv6 || hairpin || b.apart {
		msgs = append(msgs, portSettings(e.veth, m.ipv6, hairpin, b.apart))
	}
	return msgs
}

// bridgeFilters says whether the host sends bridged packets through the IP firewall (br_netfilter). The addresses of
// published ports are translated on the bridge then, and a container's packet to its own published port goes back out of
// the port it came from, which a bridge does only if told.
func bridgeFilters() bool {
	b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
	return err == nil && len(b) > 0 && b[0] == '1'
}

// isolate makes a namespace with nothing but a loopback.
func (m *Manager) isolate() (*parked, error) {
	p := &parked{endpoint: endpoint{id: newID(), lan: m.none}}
	ns, err := inNewNS(m.host, func() error {
		inside, err := dialRtnl()
		if err != nil {
			return err
		}
		defer inside.close()
		if _, err := m.firstIndex(); err != nil {
			return err
		}
		if err := inside.do(linkUp("lo", loopbackIndex)); err != nil {
			return err
		}
		return setSysctls(defaultSysctls)
	})
	if err != nil {
		return nil, err
	}
	p.ns = ns
	return p, nil
}

// newID is docker's kind of id.
// newID makes a random id. As with containers, its first digit is decimal, so that it never begins as a name does that begins with a
// letter.
func newID() string {
	for {
		var b [32]byte
		rand.Read(b[:])
		if id := hex.EncodeToString(b[:]); id[0] <= '9' {
			return id
		}
	}
}

// linkLocal is the address that the kernel would derive from the MAC address.
func linkLocal(mac []byte) netip.Prefix {
	b := [16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}
