package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"github.com/kistdev/kist/internal/testbed/suite"
)

// The addresses of the lab: a host and what is outside of it, on one wire.
var (
	hostAddr    = netip.MustParseAddr("198.51.100.1")
	outsideAddr = netip.MustParseAddr("198.51.100.2")
)

// lab is a host with a manager, and a neighbour.
type lab struct {
	*testing.T
	m       *Manager
	host    *os.File
	outside *os.File
}

// newLab wires the host and the neighbour and opens a manager; the test's end checks that nothing is left.
func newLab(t *testing.T, c Config) *lab {
	t.Helper()
	l := bareLab(t)
	l.m = l.open(c)
	l.restore()
	return l
}

func bareLab(t *testing.T) *lab {
	t.Helper()
	suite.NeedNetwork(t)
	host, err := currentNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	l := &lab{T: t, host: host}
	lo := l.link("lo")
	l.ok(netlink.LinkSetUp(lo))
	l.outside, err = inNewNS(host, func() error { return nil })
	l.ok(err)
	t.Cleanup(func() { l.outside.Close() })
	t.Cleanup(l.clean)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	attrs.MTU = 1400
	l.ok(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "out0", PeerNamespace: netlink.NsFd(l.outside.Fd())}))
	t.Cleanup(func() { l.ok(netlink.LinkDel(l.link("up0"))) })
	l.address("up0", netip.PrefixFrom(hostAddr, 24))
	l.ok(netlink.RouteAdd(&netlink.Route{Gw: outsideAddr.AsSlice()}))
	l.in(l.outside, func() {
		l.ok(netlink.LinkSetUp(l.link("lo")))
		l.address("out0", netip.PrefixFrom(outsideAddr, 24))
	})
	return l
}

func (l *lab) open(c Config) *Manager {
	l.Helper()
	m, err := Open(context.Background(), c)
	l.ok(err)
	l.Cleanup(func() {
		l.ok(m.Teardown(context.Background()))
		l.ok(m.Close())
	})
	return m
}

func (l *lab) restore(held ...Held) {
	l.Helper()
	l.ok(l.m.Restore(context.Background(), held))
}

// clean asserts that the managers have left nothing.
func (l *lab) clean() {
	l.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		links, err := dump(netlink.LinkList)
		l.ok(err)
		var left []string
		for _, link := range links {
			if name := link.Attrs().Name; name != "lo" && name != "up0" {
				left = append(left, name)
			}
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			l.Fatalf("links are left: %v", left)
		}
	}
	tables, err := (&nftables.Conn{}).ListTables()
	l.ok(err)
	for _, t := range tables {
		l.Errorf("firewall table %s is left", t.Name)
	}
}

func (l *lab) ok(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) link(name string) netlink.Link {
	l.Helper()
	link, err := netlink.LinkByName(name)
	l.ok(err)
	return link
}

func (l *lab) address(name string, p netip.Prefix) {
	l.Helper()
	link := l.link(name)
	l.ok(netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}))
	l.ok(netlink.LinkSetUp(link))
}

// in runs fn on a thread in the namespace; nil is the host.
func (l *lab) in(ns *os.File, fn func()) {
	l.Helper()
	if ns == nil {
		fn()
		return
	}
	if err := inNS(l.host, ns, func() error { fn(); return nil }); err != nil {
		l.Fatal(err)
	}
}

// nft runs the program of that name, if there is one.
func (l *lab) nft(commands string) {
	l.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		l.Skip("no nft program")
	}
	if out, err := exec.Command(path, commands).CombinedOutput(); err != nil {
		l.Fatalf("nft %s: %v: %s", commands, err, out)
	}
}

// join makes a container that is gone when the test ends.
func (l *lab) join(r JoinRequest) *Sandbox {
	l.Helper()
	s, err := l.m.Join(context.Background(), r)
	l.ok(err)
	l.Cleanup(func() { s.Close() })
	return s
}

// serve answers every connection to addr in the namespace with the word, and with who it came from.
func (l *lab) serve(ns *os.File, addr, word string) {
	l.Helper()
	var ln net.Listener
	var err error
	l.in(ns, func() { ln, err = net.Listen("tcp", addr) })
	l.ok(err)
	l.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = io.WriteString(c, word+" "+from)
			c.Close()
		}
	}()
}

// fetch connects from the namespace to addr, and returns what is said there.
func (l *lab) fetch(ns *os.File, addr string, wait time.Duration) (string, error) {
	var answer string
	var err error
	l.in(ns, func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", addr, wait); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(wait))
		var b []byte
		b, err = io.ReadAll(c)
		answer = string(b)
	})
	return answer, err
}

func (l *lab) wantAnswer(ns *os.File, addr, want string) {
	l.Helper()
	got, err := l.fetch(ns, addr, 5*time.Second)
	if err != nil || !strings.HasPrefix(got, want) {
		l.Errorf("%s answers %q, %v; want %q", addr, got, err, want)
	}
}

func (l *lab) wantSilence(ns *os.File, addr string) {
	l.Helper()
	if got, err := l.fetch(ns, addr, 200*time.Millisecond); err == nil {
		l.Errorf("%s answers %q; want no connection", addr, got)
	}
}

// udpEcho answers every packet with itself, and counts them.
func (l *lab) udpEcho(ns *os.File, addr string) *net.UDPConn {
	l.Helper()
	c := l.udp(ns, addr)
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	return c
}

func (l *lab) udp(ns *os.File, addr string) *net.UDPConn {
	l.Helper()
	kind := "udp4"
	if strings.HasPrefix(addr, "[") {
		kind = "udp6"
	}
	var c net.PacketConn
	var err error
	l.in(ns, func() { c, err = net.ListenPacket(kind, addr) })
	l.ok(err)
	l.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// ask sends a packet and waits for the same to come back.
func ask(c *net.UDPConn, to string, wait time.Duration) error {
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo([]byte("hello"), addr); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 100)
	n, _, err := c.ReadFrom(b)
	if err == nil && string(b[:n]) != "hello" {
		return errors.New("another answer")
	}
	return err
}

func ports(t *testing.T, pairs ...string) network.PortMap {
	t.Helper()
	m := network.PortMap{}
	for _, p := range pairs {
		host, container, _ := strings.Cut(p, ">")
		var b network.PortBinding
		if ip, port, ok := strings.Cut(host, ":"); ok {
			b.HostIP, b.HostPort = netip.MustParseAddr(ip), port
		} else {
			b.HostPort = host
		}
		port := network.MustParsePort(container)
		m[port] = append(m[port], b)
	}
	return m
}

// taken counts the addresses that somebody has on the network.
func taken(l *lan) int {
	n := 0
	for _, p := range append(l.v4, l.v6...) {
		p.Taken(func(netip.Addr, string) bool { n++; return true })
	}
	return n
}
