package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"github.com/kistdev/kist/internal/network/firewall"
)

// The daemon ends and another one takes over: a connection goes on, the port answers all along, and what belongs to
// nobody is gone.
func TestRestore(t *testing.T) {
	l := bareLab(t)
	first, err := Open(context.Background(), Config{})
	l.ok(err)
	l.m = first
	l.restore()
	web := l.join(JoinRequest{ContainerID: "web", Name: "web", Ports: ports(t, "8080>80", "127.0.0.1:8081>80", "5300>53/udp")})
	lost := l.join(JoinRequest{ContainerID: "lost", Ports: ports(t, "8090>80")})
	none := l.join(JoinRequest{ContainerID: "none", Network: "none"})
	l.serve(web.NS, ":80", "web")
	l.serve(lost.NS, ":80", "lost")
	l.udpEcho(web.NS, ":53")
	long := l.longConnection(web.NS, "198.51.100.1:8080")
	l.wantAnswer(l.outside, "198.51.100.1:8090", "lost")
	l.ok(first.Close())

	long()
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	l.m = l.open(Config{})
	long()
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	l.restore(
		Held{ContainerID: "web", Name: "web", Networks: web.Networks, Ports: web.Ports},
		Held{ContainerID: "none", Networks: none.Networks, Ports: none.Ports},
		Held{ContainerID: "host", Networks: map[string]*network.EndpointSettings{"host": {}}},
	)
	long()
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	l.wantAnswer(nil, "127.0.0.1:8081", "web")
	if err := ask(l.udp(l.outside, ":0"), "198.51.100.1:5300", 5e9); err != nil {
		t.Error(err)
	}
	l.wantSilence(l.outside, "198.51.100.1:8090")
	l.wantSilence(nil, lost.Networks["bridge"].IPAddress.String()+":80")
	if _, err := net.Listen("tcp4", ":8080"); err == nil {
		t.Error("the port is not held after the restart")
	}
	n, err := l.m.Inspect(context.Background(), "bridge")
	l.ok(err)
	if c := n.Containers["web"]; len(n.Containers) != 1 || c.Name != "web" || c.IPv4Address != netip.MustParsePrefix("172.17.0.2/20") || c.EndpointID != web.Networks["bridge"].EndpointID {
		t.Errorf("containers %+v", n.Containers)
	}
	for i := range 3 {
		if s := l.join(JoinRequest{ContainerID: fmt.Sprint(i)}); s.Networks["bridge"].IPAddress == web.Networks["bridge"].IPAddress {
			t.Error("a running container's address was given away")
		}
	}
	l.ok(l.m.Leave(context.Background(), "web"))
	l.wantSilence(l.outside, "198.51.100.1:8080")
	web.Close()
	eventually(t, "the veth pair is left", func() bool {
		_, err := netlink.LinkByName(l.m.c.vethName(web.Networks["bridge"].EndpointID))
		return err != nil
	})
}

// longConnection is opened at once; what it returns sends a line and wants it back.
func (l *lab) longConnection(ns *os.File, addr string) func() {
	l.Helper()
	var ln net.Listener
	l.in(ns, func() {
		var err error
		ln, err = net.Listen("tcp4", ":7777")
		l.ok(err)
	})
	l.Cleanup(func() { ln.Close() })
	host, _, _ := net.SplitHostPort(addr)
	hp := firewall.One(every, network.TCP, 7777)
	a := l.m.attached["web"]
	l.ok(l.m.fw.Publish(map[firewall.Ports]firewall.Target{hp: {Addr: a.ends[0].addr.Addr(), Port: 7777}}))
	var c net.Conn
	l.in(l.outside, func() {
		var err error
		c, err = net.Dial("tcp4", net.JoinHostPort(host, "7777"))
		l.ok(err)
	})
	l.Cleanup(func() { c.Close() })
	peer, err := ln.Accept()
	l.ok(err)
	l.Cleanup(func() { peer.Close() })
	r := bufio.NewReader(peer)
	return func() {
		l.Helper()
		if _, err := fmt.Fprintln(c, "line"); err != nil {
			l.Error(err)
		}
		if s, err := r.ReadString('\n'); err != nil || s != "line\n" {
			l.Errorf("the connection was interrupted: %q, %v", s, err)
		}
	}
}

// A bridge that was deleted while no daemon ran is made anew, with the address that the containers know, and they are put
// back on it.
func TestRestoreMendsTheBridge(t *testing.T) {
	l := bareLab(t)
	blocker := netip.MustParsePrefix("172.17.0.9/24")
	l.address("lo", blocker)
	c := Config{StateDir: t.TempDir() + "/network"}
	first, err := Open(context.Background(), c)
	l.ok(err)
	l.m = first
	l.restore()
	web := l.join(JoinRequest{ContainerID: "web", Ports: ports(t, "8080>80")})
	l.serve(web.NS, ":80", "web")
	l.ok(first.Close())
	l.ok(netlink.LinkDel(l.link("kist0")))
	l.ok(netlink.AddrDel(l.link("lo"), &netlink.Addr{IPNet: &net.IPNet{IP: blocker.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}}))
	nft := &nftables.Conn{}
	nft.FlushRuleset()
	l.ok(nft.Flush())

	l.m = l.open(c)
	l.restore(Held{ContainerID: "web", Networks: web.Networks, Ports: web.Ports})
	if got := l.m.Gateway(); got != netip.MustParseAddr("172.18.0.1") {
		t.Errorf("the gateway is %s now", got)
	}
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
}

func TestRemoveAll(t *testing.T) {
	l := newLab(t, Config{})
	var held []*parked
	var veths []string
	for range 20 {
		p, err := l.m.wire()
		l.ok(err)
		held, veths = append(held, p), append(veths, p.veth)
	}
	l.ok(l.m.rt.removeAll(append(veths, "kistv0000000000"))) // the last one is not there
	for _, p := range held {
		if l.m.sweep.exists(p.veth) {
			t.Errorf("%s is left", p.veth)
		}
		p.ns.Close()
		l.m.sweep.add(&p.endpoint)
	}
	l.ok(l.m.rt.removeAll(veths))
	l.ok(l.m.rt.removeAll(nil))
	l.link("kist0")
}

func TestOpenTakesOver(t *testing.T) {
	l := bareLab(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "kist0"
	l.ok(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})) // somebody else's
	l.m = l.open(Config{Instance: "abc"})
	if l.m.lan.link.name != "kist-abc" {
		t.Errorf("bridge %s", l.m.lan.link.name)
	}
	l.ok(netlink.LinkDel(l.link("kist0")))
	again := l.open(Config{Instance: "abc"})
	if again.lan.link.index != l.m.lan.link.index || again.Gateway() != l.m.Gateway() {
		t.Errorf("%+v, then %+v", l.m.lan.link, again.lan.link)
	}
	moved := l.open(Config{Instance: "abc", BIP: netip.MustParsePrefix("10.99.0.1/24")})
	if moved.lan.link.index != l.m.lan.link.index || moved.Gateway() != netip.MustParseAddr("10.99.0.1") {
		t.Errorf("%+v, then with a BIP %+v", l.m.lan.link, moved.lan.link)
	}
	l.ok(moved.Restore(context.Background(), nil))
	s, err := moved.Join(context.Background(), JoinRequest{ContainerID: "x"})
	l.ok(err)
	defer s.Close()
	if _, err := Open(context.Background(), Config{Instance: "abc", BIP: netip.MustParsePrefix("10.98.0.1/24")}); err == nil {
		t.Error("the bridge's address was changed under a container")
	}
}

// A bridge that the user named is the user's: it gets ports, and stays as it was.
func TestBridgeOfTheUser(t *testing.T) {
	l := bareLab(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br9"
	l.ok(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	l.address("br9", netip.MustParsePrefix("10.5.0.1/24"))
	t.Cleanup(func() { l.ok(netlink.LinkDel(l.link("br9"))) })
	m, err := Open(context.Background(), Config{Bridge: "br9"})
	l.ok(err)
	l.m = m
	l.restore()
	s := l.join(JoinRequest{ContainerID: "web", Ports: ports(t, "8080>80")})
	if ep := s.Networks["bridge"]; ep.IPAddress != netip.MustParseAddr("10.5.0.2") || ep.IPPrefixLen != 24 {
		t.Errorf("%+v", ep)
	}
	l.serve(s.NS, ":80", "web")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	l.ok(m.Teardown(context.Background()))
	l.ok(m.Close())
	if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/br9/disable_ipv6"); err == nil && b[0] != '0' {
		t.Error("IPv6 of the user's bridge was turned off")
	}
	if l.link("br9").Attrs().MTU != 1500 {
		t.Error("the MTU of the user's bridge was changed")
	}
	if _, err := Open(context.Background(), Config{Bridge: "lo"}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("an interface that is no bridge: %v", err)
	}
}
