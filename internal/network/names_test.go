package network

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/kistdev/kist/internal/dns"
)

// lookup asks the name server from within the namespace; nil means that there is no such name.
func (l *lab) lookup(ns *os.File, name string) []netip.Addr {
	l.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 5}, Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeALL, Class: dnsmessage.ClassINET},
	}}
	p, err := m.Pack()
	l.ok(err)
	var c net.Conn
	l.in(ns, func() { c, err = net.Dial("udp", "127.0.0.11:53") })
	l.ok(err)
	defer c.Close()
	l.ok(c.SetDeadline(time.Now().Add(6 * time.Second)))
	_, err = c.Write(p)
	l.ok(err)
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		l.Fatalf("%s: %v", name, err)
	}
	l.ok(m.Unpack(buf[:n]))
	var list []netip.Addr
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			list = append(list, netip.AddrFrom4(b.A))
		case *dnsmessage.AAAAResource:
			list = append(list, netip.AddrFrom16(b.AAAA))
		}
	}
	return list
}

func (l *lab) wantName(ns *os.File, name string, want ...netip.Addr) {
	l.Helper()
	if got := l.lookup(ns, name); !slices.Equal(got, want) {
		l.Errorf("%s is at %v, want %v", name, got, want)
	}
}

func TestNames(t *testing.T) {
	l := newUserLab(t)
	// An internal network: names that are not known are not asked for outside, where nobody answers here.
	l.create(network.CreateRequest{Name: "front", Internal: true})
	l.create(network.CreateRequest{Name: "back", Internal: true})
	web := l.join(JoinRequest{ContainerID: "web0123456789abc", Name: "web", Network: "front", Endpoint: &network.EndpointSettings{Aliases: []string{"www"}}})
	db := l.join(JoinRequest{ContainerID: "db0123456789abcd", Name: "db", Hostname: "store", Network: "back", Restarts: true})
	webAddr, dbAddr := web.Networks["front"].IPAddress, db.Networks["back"].IPAddress
	if len(web.Sockets) != 2 || !slices.Equal(web.Resolv.Servers, []netip.Addr{dns.Address}) || !slices.Contains(web.Resolv.Options, "ndots:0") {
		t.Errorf("%v, %+v", web.Sockets, web.Resolv)
	}
	l.wantName(web.NS, "www", webAddr)
	l.wantName(web.NS, "web0123456789"[:12], webAddr)
	l.wantName(web.NS, "db")
	l.wantName(db.NS, "store", dbAddr)
	l.wantName(db.NS, "host.docker.internal", l.m.lans[db.Networks["back"].NetworkID].hostAddresses()[0].Addr())
	ctx := context.Background()
	_, made, err := l.m.Connect(ctx, "web0123456789abc", "back", nil, web.NS)
	l.ok(err)
	l.wantName(db.NS, "web", made.IPAddress)
	l.wantName(web.NS, "db", dbAddr)
	l.m.Rename("web0123456789abc", "site")
	l.wantName(db.NS, "site", made.IPAddress)
	l.wantName(db.NS, "web")
	// It ends, and is expected back; then it is not.
	l.ok(l.m.Leave(ctx, "db0123456789abcd"))
	l.wantName(web.NS, "db", dbAddr)
	db.Close()
	db = l.join(JoinRequest{ContainerID: "db0123456789abcd", Name: "db", Network: "back", Restarts: true})
	if got := db.Networks["back"].IPAddress; got != dbAddr {
		t.Errorf("back at %s, was at %s", got, dbAddr)
	}
	l.wantName(web.NS, "db", dbAddr)
	l.m.Forget("db0123456789abcd") // it is there
	l.wantName(web.NS, "db", dbAddr)
	l.ok(l.m.Leave(ctx, "db0123456789abcd"))
	l.m.Forget("db0123456789abcd")
	l.wantName(web.NS, "db")
	_, _, err = l.m.Disconnect(ctx, "web0123456789abc", "back", web.NS)
	l.ok(err)
	l.wantName(web.NS, "site", webAddr)
}

// The daemon ends: sockets that were kept are taken up, others are made anew.
func TestNamesAfterARestart(t *testing.T) {
	l := bareLab(t)
	dir := t.TempDir()
	first, err := Open(context.Background(), Config{DataDir: dir})
	l.ok(err)
	l.m = first
	l.restore()
	l.create(network.CreateRequest{Name: "front", Internal: true})
	a := l.join(JoinRequest{ContainerID: "aa0123456789abcd", Name: "aa", Network: "front"})
	b := l.join(JoinRequest{ContainerID: "bb0123456789abcd", Name: "bb", Network: "front"})
	l.ok(first.Close())
	c := l.ask(a.NS, "bb") // it waits
	for _, fd := range b.Sockets {
		dns.Sockets{UDP: fd}.Close()
	}
	b.Sockets = nil
	l.m = l.open(Config{DataDir: dir})
	pid := l.process(b.NS)
	l.restore(
		Held{ContainerID: "aa0123456789abcd", Name: "aa", Networks: a.Networks, Sockets: a.Sockets},
		Held{ContainerID: "bb0123456789abcd", Name: "bb", Networks: b.Networks, PID: pid},
	)
	a.Sockets = nil // the manager's by now
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	l.ok(err)
	if want := b.Networks["front"].IPAddress.As4(); !bytes.Contains(buf[:n], want[:]) {
		t.Errorf("the answer of a question that waited: %x", buf[:n])
	}
	l.wantName(b.NS, "aa", a.Networks["front"].IPAddress)
}

// A container that wants port 53 for itself has it, and names all the same.
func TestNamesBesidePort53(t *testing.T) {
	l := newUserLab(t)
	l.create(network.CreateRequest{Name: "front", Internal: true})
	s := l.join(JoinRequest{
		ContainerID: "dd0123456789abcd", Name: "dd", Network: "front", Exposed: network.PortSet{network.MustParsePort("53/udp"): {}},
	})
	addr := s.Networks["front"].IPAddress
	l.udpEcho(s.NS, ":53")
	l.serve(s.NS, ":53", "mine")
	l.wantAnswer(s.NS, addr.String()+":53", "mine "+addr.String())
	l.wantName(s.NS, "dd", addr)
	l.in(s.NS, func() {
		c, err := net.Dial("tcp", "127.0.0.11:53")
		l.ok(err)
		defer c.Close()
		l.ok(c.SetDeadline(time.Now().Add(5 * time.Second)))
		_, err = c.Write([]byte{0, 20, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 'd', 'd', 0, 0, 1, 0, 1})
		l.ok(err)
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		l.ok(err)
		if want := addr.As4(); !bytes.HasSuffix(buf[:n], want[:]) {
			t.Errorf("over TCP: %x", buf[:n])
		}
	})
}

// On the default bridge there is no name server, until the container joins a network with names.
func TestNamesLater(t *testing.T) {
	l := newUserLab(t)
	if !hostReachable() {
		t.Skip("all resolvers of this host are on its loopback: the default bridge has a name server")
	}
	l.create(network.CreateRequest{Name: "front", Internal: true})
	s := l.join(JoinRequest{ContainerID: "ee0123456789abcd", Name: "ee"})
	if len(s.Sockets) != 0 {
		t.Error("sockets on the default bridge")
	}
	_, made, err := l.m.Connect(context.Background(), "ee0123456789abcd", "front", nil, s.NS)
	l.ok(err)
	r, served, sockets, err := l.m.Resolv("ee0123456789abcd")
	if err != nil || !served || len(sockets) != 2 || !slices.Equal(r.Servers, []netip.Addr{dns.Address}) {
		t.Errorf("%+v, %v, %v, %v", r, served, sockets, err)
	}
	closeAll(sockets)
	if _, _, again, _ := l.m.Resolv("ee0123456789abcd"); len(again) != 0 {
		t.Error("its sockets are given away twice")
	}
	l.wantName(s.NS, "ee", made.IPAddress)
}

// ask sends a question and leaves the answer to be read.
func (l *lab) ask(ns *os.File, name string) net.Conn {
	l.Helper()
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	p, err := m.Pack()
	l.ok(err)
	var c net.Conn
	l.in(ns, func() { c, err = net.Dial("udp", "127.0.0.11:53") })
	l.ok(err)
	l.Cleanup(func() { c.Close() })
	l.ok(c.SetDeadline(time.Now().Add(10 * time.Second)))
	_, err = c.Write(p)
	l.ok(err)
	return c
}

// process starts one that lives in the namespace until the test ends.
func (l *lab) process(ns *os.File) int {
	l.Helper()
	cmd := exec.Command("sleep", "1000")
	var err error
	l.in(ns, func() { err = cmd.Start() })
	l.ok(err)
	l.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}
