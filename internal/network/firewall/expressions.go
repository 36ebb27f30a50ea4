package firewall

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

// Registers of four bytes: a key or a value of several parts lies in consecutive ones.
const (
	reg0 = unix.NFT_REG32_00
	reg1 = unix.NFT_REG32_01
	reg2 = unix.NFT_REG32_02
	reg4 = unix.NFT_REG32_04
	reg5 = unix.NFT_REG32_05
)

var loopback = netip.MustParsePrefix("127.0.0.0/8")

func newRule(text string, parts ...[]expr.Any) rule {
	r := rule{text: text}
	for _, p := range parts {
		r.exprs = append(r.exprs, p...)
	}
	return r
}

func ifName(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: reg0}, &expr.Cmp{Op: op, Register: reg0, Data: padded}}
}

func iifName(op expr.CmpOp, name string) []expr.Any { return ifName(expr.MetaKeyIIFNAME, op, name) }
func oifName(op expr.CmpOp, name string) []expr.Any { return ifName(expr.MetaKeyOIFNAME, op, name) }

func iifPrefix(prefix string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg0},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte(prefix)},
	}
}

func notrack() []expr.Any { return []expr.Any{&expr.Notrack{}} }

// ip4 and ip6 go before whatever reads a header: the table sees both.
func ip4() []expr.Any { return family(unix.NFPROTO_IPV4) }
func ip6() []expr.Any { return family(unix.NFPROTO_IPV6) }

func family(f byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg0},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{f}},
	}
}

func tcp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.IPPROTO_TCP}},
	}
}

func reset() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

func header(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func saddr() []expr.Any { return []expr.Any{header(12, 4)} }
func daddr() []expr.Any { return []expr.Any{header(16, 4)} }

func saddr6() []expr.Any { return []expr.Any{header(8, 16)} }
func daddr6() []expr.Any { return []expr.Any{header(24, 16)} }

func within(p netip.Prefix) []expr.Any {
	bits := p.Addr().BitLen()
	size := uint32(bits / 8)
	return []expr.Any{
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: size, Mask: net.CIDRMask(p.Bits(), bits), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: p.Masked().Addr().AsSlice()},
	}
}

func is(a netip.Addr) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: a.AsSlice()}}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
func verdictTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

func daddrIsLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg0, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// load puts the map's key into registers: [address,] protocol, port.
func (m *portMap) load() []expr.Any {
	switch {
	case !m.one:
		return protoAndPort(reg0, reg1)
	case m.v6:
		return append(daddr6(), protoAndPort(reg4, reg5)...)
	}
	return append(daddr(), protoAndPort(reg1, reg2)...)
}

func protoAndPort(proto, port uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// lookup goes on only if the map has the key.
func (m *portMap) lookup() []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: m.name}}
}

func (m *portMap) dnat() []expr.Any {
	n := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg0}
	port := uint32(reg1)
	if m.v6 {
		n.Family, port = unix.NFPROTO_IPV6, reg4
	}
	if !m.ranges { // else the port stays
		n.RegProtoMin, n.Specified = port, true
	}
	return []expr.Any{n}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)},
	}
}

// ipsDstNAT is the kernel's IPS_DST_NAT: the connection's destination was translated.
const ipsDstNAT = 1 << 5

func ctDNAT() []expr.Any { return ctBits(expr.CtKeySTATUS, ipsDstNAT) }

func ctEstablished() []expr.Any {
	return ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

func ctNew() []expr.Any { return ctBits(expr.CtKeySTATE, expr.CtStateBitNEW) }

// kernelSet describes the map. Its id matters only within the transaction that makes it.
func (m *portMap) kernelSet(t *nftables.Table, id uint32) *nftables.Set {
	addr := nftables.TypeIPAddr
	if m.v6 {
		addr = nftables.TypeIP6Addr
	}
	key := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
	if m.one {
		key = append([]nftables.SetDatatype{addr}, key...)
	}
	s := &nftables.Set{
		ID: id, Table: t, Name: m.name, IsMap: true, Concatenation: true, Interval: m.ranges,
		KeyType: nftables.MustConcatSetType(key...), DataType: addr, KeyByteOrder: binaryutil.BigEndian,
	}
	if !m.ranges {
		s.DataType = nftables.MustConcatSetType(addr, nftables.TypeInetService)
	}
	return s
}

var protocolNumbers = map[network.IPProtocol]byte{
	network.TCP: unix.IPPROTO_TCP, network.UDP: unix.IPPROTO_UDP, network.SCTP: unix.IPPROTO_SCTP,
}

// Knows says whether ports of the protocol can be published.
func Knows(p network.IPProtocol) bool { return protocolNumbers[p] != 0 }

// key is an element's key: each part is padded to a register.
func (p Ports) key(port uint16) []byte {
	var b []byte
	if !p.Addr.IsUnspecified() {
		b = p.Addr.AsSlice()
	}
	b = append(b, protocolNumbers[p.Proto], 0, 0, 0)
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

func (t Target) value() []byte {
	return append(binary.BigEndian.AppendUint16(t.Addr.AsSlice(), t.Port), 0, 0)
}
