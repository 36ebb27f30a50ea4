package network

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/dns"
)

// asideTable is the table in a container's own namespace that leads its questions past a name server of its own.
const asideTable = "kist_names"

// servesNames says whether the container means to have port 53 for itself.
func (r *JoinRequest) servesNames() bool {
	for port := range r.Exposed {
		if port.Num() == namePort {
			return true
		}
	}
	for port := range r.Ports {
		if port.Num() == namePort {
			return true
		}
	}
	return false
}

const namePort = 53

// listenAside has the name server listen on other ports in the namespace, so that a program in it can have port 53 of all
// addresses, and changes the ports of what goes to and comes from 127.0.0.11. That happens packet by packet, without
// tracking connections.
func (m *Manager) listenAside(ns *os.File) (s dns.Sockets, err error) {
	err = inNS(m.host, ns, func() error {
		s, err = dns.ListenAside()
		return err
	})
	if err != nil {
		return s, err
	}
	udp, tcp, err := s.Ports()
	if err == nil {
		err = redirectNames(ns, udp, tcp)
	}
	if err != nil {
		s.Close()
		return dns.Sockets{}, fmt.Errorf("name server beside port 53: %w", err)
	}
	return s, nil
}

func redirectNames(ns *os.File, udp, tcp uint16) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Name: asideTable, Family: nftables.TableFamilyIPv4})
	c.FlushTable(t)
	out := c.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw,
	})
	const ( // places in the headers
		from, to           = 12, 16
		fromPort, toPort   = 0, 2
		udpSum, tcpSum     = 6, 16
		protoUDP, protoTCP = unix.IPPROTO_UDP, unix.IPPROTO_TCP
	)
	for _, exprs := range [][]expr.Any{
		changePort(to, protoUDP, toPort, namePort, udp, udpSum), changePort(to, protoTCP, toPort, namePort, tcp, tcpSum),
		changePort(from, protoUDP, fromPort, udp, namePort, udpSum), changePort(from, protoTCP, fromPort, tcp, namePort, tcpSum),
	} {
		c.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: exprs})
	}
	return c.Flush()
}

// changePort is: ip ADDR 127.0.0.11 PROTO PORT is, PROTO PORT set becomes.
func changePort(addr uint32, proto byte, at uint32, is, becomes uint16, sum uint32) []expr.Any {
	const reg = unix.NFT_REG32_00
	number := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: addr, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: dns.Address.AsSlice()},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{proto}},
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: number(is)},
		&expr.Immediate{Register: reg, Data: number(becomes)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: sum,
		},
	}
}

// exposes is for Held, whose ports are those that were published.
func exposes(ports network.PortMap) bool {
	for port := range ports {
		if port.Num() == namePort {
			return true
		}
	}
	return false
}
