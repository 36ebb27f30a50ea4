package network

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// laterEthIndex is used where the kernel gives every new namespace devices of its own that come before (sit0, tunl0).
const laterEthIndex = 1000

// wire makes a namespace on the bridge with any free address, for the pool.
func (m *Manager) wire() (*parked, error) {
	id := newID()
	addr, err := m.tryAddress(netip.Addr{}, id)
	if err != nil {
		return nil, err
	}
	return m.wireAt(id, addr, nil)
}

// wireAsAsked makes a namespace on the bridge with the address, if it is valid, and the MAC address, if there is one, that
// the user asked for.
func (m *Manager) wireAsAsked(want netip.Addr, mac network.HardwareAddr) (*parked, error) {
	id := newID()
	addr, err := m.takeAddress(want, id)
	if err != nil {
		return nil, err
	}
	return m.wireAt(id, addr, mac)
}

// wireAt makes a namespace with an endpoint that has its address already, and gives that back if it fails.
func (m *Manager) wireAt(id string, addr netip.Addr, mac network.HardwareAddr) (_ *parked, err error) {
	p := &parked{endpoint: endpoint{id: id, network: network.NetworkBridge, veth: m.c.vethName(id)}}
	p.addr = netip.PrefixFrom(addr, m.bridge.addr.Bits())
	if p.mac = mac; len(mac) == 0 {
		p.mac = macOf(addr)
	}
	var inside *rtnl
	p.ns, err = inNewNS(m.host, func() error {
		if inside, err = dialRtnl(); err != nil {
			return err
		}
		return setSysctls(defaultSysctls)
	})
	if inside != nil {
		defer inside.close()
	}
	if err == nil {
		err = m.connect(p, inside)
	}
	if err != nil {
		if p.ns != nil {
			p.ns.Close()
		}
		m.giveBack(addr, p.id)
		return nil, err
	}
	return p, nil
}

// connect makes the veth pair and sets the namespace's end up. The kernel takes a pair that is left half made away with
// the namespace.
func (m *Manager) connect(p *parked, inside *rtnl) error {
	index := int(m.ethIndex.Load())
	err := m.rt.do(m.pair(p, index)...)
	if errors.Is(err, unix.EBUSY) && index != laterEthIndex {
		index = laterEthIndex
		m.ethIndex.Store(laterEthIndex)
		err = m.rt.do(m.pair(p, index)...)
	}
	if errors.Is(err, unix.EXFULL) {
		return &fault.Error{
			Code: "bridge-full", What: "cannot connect the container to the bridge " + m.bridge.name,
			Cause: "a Linux bridge has 1023 ports, and all are in use", Class: errdefs.ErrResourceExhausted, Err: err,
		}
	}
	if err != nil {
		return err
	}
	msgs := []*message{linkUp("lo", loopbackIndex)}
	if m.ipv6 {
		msgs = append(msgs, linkQuiet(index))
	}
	msgs = append(msgs, linkUp(containerIfName, index), addrAdd(index, p.addr), defaultRoute(index, m.bridge.addr.Addr()))
	if err := inside.do(msgs...); err != nil {
		return err
	}
	return m.rt.do(linkSync(p.veth), linkSync(m.bridge.name))
}

func (m *Manager) pair(p *parked, index int) []*message {
	msgs := []*message{vethPair(p.veth, m.bridge.index, m.bridge.mtu, int(p.ns.Fd()), index, p.mac)}
	if hairpin := bridgeFilters(); m.ipv6 || hairpin {
		msgs = append(msgs, portSettings(p.veth, m.ipv6, hairpin))
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
	p := &parked{endpoint: endpoint{id: newID(), network: network.NetworkNone}}
	ns, err := inNewNS(m.host, func() error {
		inside, err := dialRtnl()
		if err != nil {
			return err
		}
		defer inside.close()
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
func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// macOf derives the MAC address from the IP address, as docker did for long: whoever has the address has this MAC, so no
// ARP cache is ever wrong about it.
func macOf(a netip.Addr) network.HardwareAddr {
	b := a.As4()
	return network.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}
