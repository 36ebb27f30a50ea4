package network

import (
	"cmp"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"

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

// ip4 goes before whatever reads an IPv4 header: the table sees IPv6 too.
func ip4() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg0},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.NFPROTO_IPV4}},
	}
}

func header(offset, length, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func saddr() []expr.Any { return []expr.Any{header(12, 4, reg0)} }
func daddr() []expr.Any { return []expr.Any{header(16, 4, reg0)} }

func within(p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: p.Masked().Addr().AsSlice()},
	}
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

// keyWithAddress and keyWithoutAddress load the keys of the two maps: [address,] protocol, port.
func keyWithAddress() []expr.Any {
	return append([]expr.Any{header(16, 4, reg0)}, protoAndPort(reg1, reg2)...)
}
func keyWithoutAddress() []expr.Any { return protoAndPort(reg0, reg1) }

func protoAndPort(proto, port uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func lookup(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: set}}
}

func dnat() []expr.Any {
	return []expr.Any{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4,
		RegAddrMin: reg0, RegProtoMin: reg1, Specified: true,
	}}
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

// The types of the maps' keys and values.
var (
	keyOfEvery  = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	keyOfOne    = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	valueOfBoth = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
)

var protocolNumbers = map[network.IPProtocol]byte{
	network.TCP: unix.IPPROTO_TCP, network.UDP: unix.IPPROTO_UDP, network.SCTP: unix.IPPROTO_SCTP,
}

// key is the element's key: each part is padded to a register.
func (k hostPort) key() []byte {
	var b []byte
	if !k.addr.IsUnspecified() {
		b = k.addr.AsSlice()
	}
	b = append(b, protocolNumbers[k.proto], 0, 0, 0)
	return append(binary.BigEndian.AppendUint16(b, k.port), 0, 0)
}

func (t target) value() []byte {
	return append(binary.BigEndian.AppendUint16(t.addr.AsSlice(), t.port), 0, 0)
}

func compareHostPorts(a, b hostPort) int {
	return cmp.Or(a.addr.Compare(b.addr), strings.Compare(string(a.proto), string(b.proto)), cmp.Compare(a.port, b.port))
}
