package network

import (
	"encoding/binary"
	"net/netip"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/network/ipam"
)

// message is a netlink request under construction.
type message struct {
	what string // for errors: "create veth pair"
	b    []byte
	open []int // offsets of the nested attributes that are not closed yet
}

func newMessage(what string, kind, flags uint16) *message {
	m := &message{what: what, b: make([]byte, unix.NLMSG_HDRLEN, 256)}
	binary.NativeEndian.PutUint16(m.b[4:], kind)
	m.flags(flags | unix.NLM_F_REQUEST)
	return m
}

func (m *message) flags(f uint16) {
	binary.NativeEndian.PutUint16(m.b[6:], binary.NativeEndian.Uint16(m.b[6:])|f)
}

// finish writes the length and the sequence number and returns the padded bytes.
func (m *message) finish(seq uint32) []byte {
	binary.NativeEndian.PutUint32(m.b, uint32(len(m.b)))
	binary.NativeEndian.PutUint32(m.b[8:], seq)
	return m.b
}

// raw appends bytes and pads to four.
func (m *message) raw(b ...byte) *message {
	m.b = append(m.b, b...)
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
	return m
}

func (m *message) attr(kind uint16, value []byte) *message {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(4+len(value)))
	m.b = binary.NativeEndian.AppendUint16(m.b, kind)
	return m.raw(value...)
}

func (m *message) text(kind uint16, s string) *message { return m.attr(kind, append([]byte(s), 0)) }

func (m *message) u32(kind uint16, v uint32) *message {
	return m.attr(kind, binary.NativeEndian.AppendUint32(nil, v))
}

func (m *message) addr(kind uint16, a netip.Addr) *message { return m.attr(kind, a.AsSlice()) }

func (m *message) nest(kind uint16) *message {
	m.open = append(m.open, len(m.b))
	return m.attr(kind, nil)
}

func (m *message) end() *message {
	at := m.open[len(m.open)-1]
	m.open = m.open[:len(m.open)-1]
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
	return m
}

// link appends the fixed part of a link request.
func (m *message) link(index int32, flags, change uint32) *message {
	m.raw(unix.AF_UNSPEC, 0, 0, 0)
	m.b = binary.NativeEndian.AppendUint32(m.b, uint32(index))
	m.b = binary.NativeEndian.AppendUint32(m.b, flags)
	m.b = binary.NativeEndian.AppendUint32(m.b, change)
	return m
}

// The attributes that golang.org/x/sys/unix does not name.
const (
	vethInfoPeer     = 1
	inet6AddrGenMode = 8
	addrGenModeNone  = 1
	brportMode       = 4 // hairpin
	brportIsolated   = 33
	macvlanMode      = 1
	ipvlanMode       = 1
	ipvlanFlags      = 2
	skipStats        = 8 // RTEXT_FILTER_SKIP_STATS
	containerIfName  = "eth0"
	loopbackIndex    = 1
)

// farEnd is what is known of a container's end when it is made: where, under which index (0 for any), and how.
type farEnd struct {
	ns, index int
	name      string
	mac       network.HardwareAddr
	mtu       int
}

// vethPair makes a pair: the host's end, up and on the bridge, and the container's, which is down as the kernel does not
// create a peer up.
func vethPair(host string, bridge int, in farEnd) *message {
	m := newMessage("create veth pair "+host, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.link(0, unix.IFF_UP, unix.IFF_UP)
	m.text(unix.IFLA_IFNAME, host).u32(unix.IFLA_MTU, uint32(in.mtu)).u32(unix.IFLA_MASTER, uint32(bridge)).oneQueue()
	m.nest(unix.IFLA_LINKINFO).text(unix.IFLA_INFO_KIND, "veth")
	m.nest(unix.IFLA_INFO_DATA).nest(vethInfoPeer).link(0, 0, 0)
	m.text(unix.IFLA_IFNAME, in.name).u32(unix.IFLA_MTU, uint32(in.mtu)).attr(unix.IFLA_ADDRESS, in.mac).u32(unix.IFLA_NET_NS_FD, uint32(in.ns)).oneQueue()
	return m.end().end().end()
}

// oneQueue gives an end of a veth pair one queue each way, as it has by default. When the default is left to the driver, it
// makes as many as there are processors and takes them back, and that waits for an RCU grace period at either end
// (drivers/net/veth.c: veth_init_queues), some 5 ms.
func (m *message) oneQueue() {
	m.u32(unix.IFLA_NUM_TX_QUEUES, 1).u32(unix.IFLA_NUM_RX_QUEUES, 1)
}

// sublink makes an interface of macvlan or ipvlan on a link of the host's. An ipvlan has its parent's MAC address.
func sublink(kind string, parent int, mode, flags uint32, in farEnd) *message {
	m := newMessage("create "+kind+" interface", unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.link(int32(in.index), 0, 0)
	m.text(unix.IFLA_IFNAME, in.name).u32(unix.IFLA_LINK, uint32(parent)).u32(unix.IFLA_NET_NS_FD, uint32(in.ns))
	if in.mtu != 0 {
		m.u32(unix.IFLA_MTU, uint32(in.mtu))
	}
	if kind == driverMacvlan {
		m.attr(unix.IFLA_ADDRESS, in.mac)
	}
	m.nest(unix.IFLA_LINKINFO).text(unix.IFLA_INFO_KIND, kind).nest(unix.IFLA_INFO_DATA)
	if kind == driverMacvlan {
		m.u32(macvlanMode, mode)
	} else {
		m.attr(ipvlanMode, binary.NativeEndian.AppendUint16(nil, uint16(mode)))
		m.attr(ipvlanFlags, binary.NativeEndian.AppendUint16(nil, uint16(flags)))
	}
	return m.end().end()
}

// noLinkLocal keeps the kernel from giving a link an IPv6 address, and from announcing it.
func (m *message) noLinkLocal() *message {
	return m.nest(unix.IFLA_AF_SPEC).nest(unix.AF_INET6).attr(inet6AddrGenMode, []byte{addrGenModeNone}).end().end()
}

// portSettings are those of the host's end that cannot be given when the pair is made.
func portSettings(name string, quiet, hairpin, apart bool) *message {
	m := newMessage("set up "+name, unix.RTM_NEWLINK, 0).link(0, 0, 0).text(unix.IFLA_IFNAME, name)
	if quiet {
		m.noLinkLocal()
	}
	if hairpin || apart {
		m.nest(unix.IFLA_LINKINFO).text(unix.IFLA_INFO_SLAVE_KIND, "bridge")
		m.nest(unix.IFLA_INFO_SLAVE_DATA)
		if hairpin {
			m.attr(brportMode, []byte{1})
		}
		if apart {
			m.attr(brportIsolated, []byte{1})
		}
		m.end().end()
	}
	return m
}

// linkQuiet must come before the link is up: the kernel looks at flags first.
func linkQuiet(name string, index int) *message {
	return newMessage("set up "+name, unix.RTM_NEWLINK, 0).link(int32(index), 0, 0).noLinkLocal()
}

// linkSync asks for a link only because the kernel then acts at once on the carrier it has: it would otherwise do so
// later, and drop the first packets until then, which costs a container's first connection a second.
func linkSync(name string) *message {
	return newMessage("look at "+name, unix.RTM_GETLINK, 0).link(0, 0, 0).
		text(unix.IFLA_IFNAME, name).u32(unix.IFLA_EXT_MASK, skipStats)
}

func linkUp(what string, index int) *message {
	return newMessage("bring up "+what, unix.RTM_NEWLINK, 0).link(int32(index), unix.IFF_UP, unix.IFF_UP)
}

func linkUpNamed(name string) *message {
	return newMessage("bring up "+name, unix.RTM_NEWLINK, 0).link(0, unix.IFF_UP, unix.IFF_UP).text(unix.IFLA_IFNAME, name)
}

func addrAdd(index int, p netip.Prefix) *message {
	m := newMessage("add address "+p.String(), unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if p.Addr().Is6() {
		scope := byte(unix.RT_SCOPE_UNIVERSE)
		if p.Addr().IsLinkLocalUnicast() {
			scope = unix.RT_SCOPE_LINK
		}
		// Who else would have it is known: nobody need be asked for a second.
		m.raw(unix.AF_INET6, byte(p.Bits()), unix.IFA_F_NODAD, scope)
		m.b = binary.NativeEndian.AppendUint32(m.b, uint32(index))
		return m.addr(unix.IFA_LOCAL, p.Addr()).addr(unix.IFA_ADDRESS, p.Addr())
	}
	m.raw(unix.AF_INET, byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	m.b = binary.NativeEndian.AppendUint32(m.b, uint32(index))
	return m.addr(unix.IFA_LOCAL, p.Addr()).addr(unix.IFA_ADDRESS, p.Addr()).addr(unix.IFA_BROADCAST, ipam.Last(p))
}

// defaultRoute makes the route, in place of one that is there. Without a gateway everything is on the link.
func defaultRoute(index int, via netip.Addr, six bool) *message {
	family := byte(unix.AF_INET)
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if six {
		family = unix.AF_INET6
	} else if !via.IsValid() {
		scope = unix.RT_SCOPE_LINK
	}
	m := newMessage("add default route via "+via.String(), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m.raw(family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0)
	if via.IsValid() {
		m.addr(unix.RTA_GATEWAY, via)
	}
	return m.u32(unix.RTA_OIF, uint32(index))
}

// noDefaultRoute removes the one there is.
func noDefaultRoute(six bool) *message {
	family := byte(unix.AF_INET)
	if six {
		family = unix.AF_INET6
	}
	m := newMessage("remove default route", unix.RTM_DELROUTE, 0)
	m.raw(family, 0, 0, 0, unix.RT_TABLE_MAIN, 0, unix.RT_SCOPE_NOWHERE, 0)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0)
	return m
}
