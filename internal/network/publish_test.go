package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func TestPublishedPortAnswersEverywhere(t *testing.T) {
	l := newLab(t, Config{})
	web := l.join(JoinRequest{ContainerID: "web", Ports: ports(t, "8080>80")})
	other := l.join(JoinRequest{ContainerID: "other"})
	l.serve(web.NS, ":80", "web")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web 198.51.100.2")
	l.wantAnswer(nil, "127.0.0.1:8080", "web 172.17.0.1")
	l.wantAnswer(nil, "198.51.100.1:8080", "web")
	l.wantAnswer(other.NS, "198.51.100.1:8080", "web")
	l.wantAnswer(other.NS, "172.17.0.1:8080", "web")
	l.wantAnswer(web.NS, "198.51.100.1:8080", "web")
	l.wantSilence(other.NS, "198.51.100.2:8080") // another host's port of the same number

	l.ok(l.m.Leave(context.Background(), "web"))
	l.wantSilence(l.outside, "198.51.100.1:8080")
	l.wantSilence(nil, "127.0.0.1:8080")
}

func TestContainersAreNotReachedButThroughPublishedPorts(t *testing.T) {
	l := newLab(t, Config{})
	s := l.join(JoinRequest{ContainerID: "web", Ports: ports(t, "8080>80")})
	l.serve(s.NS, ":80", "web")
	l.in(l.outside, func() {
		l.ok(netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4(172, 17, 0, 0), Mask: net.CIDRMask(16, 32)}, Gw: hostAddr.AsSlice()}))
	})
	l.wantSilence(l.outside, "172.17.0.2:80")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	l.wantAnswer(nil, "172.17.0.2:80", "web")
}

func TestPortOfOneAddress(t *testing.T) {
	l := newLab(t, Config{})
	s := l.join(JoinRequest{ContainerID: "web", Ports: ports(t, "127.0.0.1:8080>80", "198.51.100.1:8081>80")})
	l.serve(s.NS, ":80", "web")
	l.wantAnswer(nil, "127.0.0.1:8080", "web")
	l.wantSilence(l.outside, "198.51.100.1:8080")
	l.wantSilence(nil, "198.51.100.1:8080")
	l.wantAnswer(l.outside, "198.51.100.1:8081", "web")
	l.wantSilence(nil, "127.0.0.1:8081")
	if got := s.Ports[network.MustParsePort("80/tcp")]; len(got) != 2 || got[0].HostIP != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("ports %v", got)
	}
}

// A neighbour on the wire can put any destination address into a packet (CVE-2020-8558).
func TestLoopbackIsOutOfANeighboursReach(t *testing.T) {
	l := newLab(t, Config{})
	s := l.join(JoinRequest{ContainerID: "dns", Ports: ports(t, "127.0.0.1:5353>53/udp", "198.51.100.1:5354>53/udp")})
	got := l.udp(s.NS, ":53")
	for _, tt := range []struct {
		to      string
		arrives bool
	}{{"127.0.0.1:5353", false}, {"198.51.100.1:5354", true}} {
		l.sendRaw(netip.MustParseAddrPort(tt.to))
		_ = got.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		_, _, err := got.ReadFrom(make([]byte, 100))
		if (err == nil) != tt.arrives {
			t.Errorf("packet to %s: %v", tt.to, err)
		}
	}
	if err := ask(l.udp(nil, "127.0.0.1:0"), "127.0.0.1:5353", 0); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = got.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := got.ReadFrom(make([]byte, 100)); err != nil {
		t.Errorf("the host's own loopback does not reach the port: %v", err)
	}
}

// sendRaw puts a UDP packet on the wire outside, addressed to the host's MAC address, whatever the IP address.
func (l *lab) sendRaw(to netip.AddrPort) {
	l.Helper()
	dst := l.link("up0").Attrs().HardwareAddr
	l.in(l.outside, func() {
		out := l.link("out0").Attrs()
		frame := append(append(append([]byte{}, dst...), out.HardwareAddr...), 0x08, 0x00)
		ip := []byte{0x45, 0, 0, 33, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
		ip = append(append(ip, outsideAddr.AsSlice()...), to.Addr().AsSlice()...)
		var sum uint32
		for i := 0; i < len(ip); i += 2 {
			sum += uint32(ip[i])<<8 | uint32(ip[i+1])
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		ip[10], ip[11] = byte(^sum>>8), byte(^sum)
		udp := []byte{0x30, 0x39, byte(to.Port() >> 8), byte(to.Port()), 0, 13, 0, 0, 'h', 'e', 'l', 'l', 'o'}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		l.ok(err)
		defer unix.Close(fd)
		l.ok(unix.Sendto(fd, append(append(frame, ip...), udp...), 0, &unix.SockaddrLinklayer{Ifindex: out.Index, Protocol: 0x0008}))
	})
}

func TestUDP(t *testing.T) {
	l := newLab(t, Config{})
	client := l.udp(l.outside, ":0")
	// The kernel knows this flow before anybody publishes its port, and again after.
	if err := ask(client, "198.51.100.1:5300", 200*time.Millisecond); err == nil {
		t.Fatal("somebody answers before the port is published")
	}
	for i := range 3 {
		id := strconv.Itoa(i)
		s := l.join(JoinRequest{ContainerID: id, Ports: ports(t, "5300>53/udp")})
		l.udpEcho(s.NS, ":53")
		if err := ask(client, "198.51.100.1:5300", 5*time.Second); err != nil {
			t.Errorf("container %d: %v", i, err)
		}
		l.ok(l.m.Leave(context.Background(), id))
	}
}

func TestPortInUse(t *testing.T) {
	l := newLab(t, Config{})
	ln, err := net.Listen("tcp4", "127.0.0.1:8080")
	l.ok(err)
	defer ln.Close()
	l.join(JoinRequest{ContainerID: "0123456789abcdef", Name: "web", Ports: ports(t, "9000-9001>80", "9000-9001>81", "7000>1/udp", "7000>2/sctp")})
	before := len(l.m.fw.Ports())
	comm, err := os.ReadFile("/proc/self/comm")
	l.ok(err)
	self := fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), os.Getpid())
	for _, tt := range []struct{ port, says string }{
		{"8080>80", "port is already allocated: 8080 is held by " + self},
		{"8080>80", "8081 is free"},
		{"127.0.0.1:8080>80", self},
		{"127.0.0.1:9000>80", "container web"},
		{"9000-9001>80", "none of 9000-9001 is free; 9000 is held by container web"},
		{"9000-9001>80", "9002 is free"},
		{"7000>80/udp", "container web"},
		{"7000>80/sctp", "container web"},
	} {
		_, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "two", Ports: ports(t, "6000>60", tt.port)})
		f, ok := fault.As(err)
		if !ok || f.Code != "port-in-use" || !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want it to say %q", tt.port, err, tt.says)
		}
	}
	_, err = l.m.Join(context.Background(), JoinRequest{ContainerID: "two", Ports: ports(t, "203.0.113.9:80>80")})
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "no interface of this host") {
		t.Errorf("foreign address: %v", err)
	}
	if after := len(l.m.fw.Ports()); after != before {
		t.Errorf("%d ports, %d before", after, before)
	}
	// What failed gave back what it had.
	l.join(JoinRequest{ContainerID: "three", Ports: ports(t, "6000>60", "127.0.0.2:8080>80")})
	if _, err := net.Listen("tcp4", ":6000"); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("the host can take a published port: %v", err)
	}
	if _, err := net.ListenPacket("udp4", "127.0.0.1:7000"); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("the host can take a published UDP port: %v", err)
	}
}

func TestEphemeralPortsAndExposed(t *testing.T) {
	l := newLab(t, Config{})
	s := l.join(JoinRequest{
		ContainerID: "web", PublishAll: true,
		Ports:   ports(t, ">80", "0>81", "9100-9110>82"),
		Exposed: network.PortSet{network.MustParsePort("80"): {}, network.MustParsePort("90/udp"): {}, network.MustParsePort("91/sctp"): {}},
	})
	from, to := localPortRange()
	for _, p := range []string{"80/tcp", "81/tcp", "90/udp", "91/sctp"} {
		b := s.Ports[network.MustParsePort(p)]
		if len(b) != 1 || b[0].HostIP != every {
			t.Errorf("%s: %v", p, b)
			continue
		}
		if n, err := strconv.Atoi(b[0].HostPort); err != nil || n < from || n > to {
			t.Errorf("%s: %v", p, b)
		}
	}
	if b := s.Ports[network.MustParsePort("82/tcp")]; len(b) != 1 || b[0].HostPort != "9100" {
		t.Errorf("range: %v", b)
	}
	l.serve(s.NS, ":80", "web")
	l.wantAnswer(l.outside, "198.51.100.1:"+s.Ports[network.MustParsePort("80/tcp")][0].HostPort, "web")
	s = l.join(JoinRequest{ContainerID: "quiet", Exposed: network.PortSet{network.MustParsePort("80"): {}}})
	if b, ok := s.Ports[network.MustParsePort("80/tcp")]; !ok || b != nil {
		t.Errorf("a port that is only exposed: %v, %v", b, ok)
	}
}

func TestFlushedRulesComeBack(t *testing.T) {
	l := newLab(t, Config{})
	s := l.join(JoinRequest{ContainerID: "web", Ports: ports(t, "8080>80")})
	l.serve(s.NS, ":80", "web")
	c := &nftables.Conn{}
	c.FlushRuleset()
	l.ok(c.Flush())
	start := time.Now()
	// A connection begun while there are no rules succeeds when they are back: nothing refuses it.
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	t.Logf("back after %v", time.Since(start))
	c.FlushTable(&nftables.Table{Name: "kist", Family: nftables.TableFamilyINet})
	l.ok(c.Flush())
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	// A table that is gone when a port is published.
	c.FlushRuleset()
	l.ok(c.Flush())
	two := l.join(JoinRequest{ContainerID: "two", Ports: ports(t, "8081>80")})
	l.serve(two.NS, ":80", "two")
	l.wantAnswer(l.outside, "198.51.100.1:8081", "two")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	// And one that is gone when a port is withdrawn.
	c.FlushRuleset()
	l.ok(c.Flush())
	l.ok(l.m.Leave(context.Background(), "two"))
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	l.wantSilence(l.outside, "198.51.100.1:8081")
}

func TestRangeOfTenThousandPorts(t *testing.T) {
	for name, shift := range map[string]int{"same numbers": 0, "other numbers": 7} {
		t.Run(name, func(t *testing.T) { tenThousandPorts(t, shift) })
	}
}

func tenThousandPorts(t *testing.T, shift int) {
	l := newLab(t, Config{})
	many := network.PortMap{}
	for n := range 10000 {
		port, _ := network.PortFrom(uint16(20000+n), network.TCP)
		many[port] = []network.PortBinding{{HostPort: strconv.Itoa(20000 + n + shift)}}
	}
	last := fmt.Sprintf("198.51.100.1:%d", 29999+shift)
	start := time.Now()
	s := l.join(JoinRequest{ContainerID: "many", Ports: many})
	t.Logf("joined in %v", time.Since(start))
	if len(s.Ports) != len(many) || s.Ports[network.MustParsePort("20001")][0].HostPort != strconv.Itoa(20001+shift) {
		t.Errorf("%d ports, 20001 on %v", len(s.Ports), s.Ports[network.MustParsePort("20001")])
	}
	if _, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "late", Ports: ports(t, fmt.Sprintf("%d>80", 20100+shift))}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a port in the range: %v", err)
	}
	busy, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 35000))
	l.ok(err)
	defer busy.Close()
	over := network.PortMap{}
	for n := range 100 {
		port, _ := network.PortFrom(uint16(34950+n), network.TCP)
		over[port] = []network.PortBinding{{HostPort: strconv.Itoa(34950 + n)}}
	}
	_, err = l.m.Join(context.Background(), JoinRequest{ContainerID: "late", Ports: over})
	if f, ok := fault.As(err); !ok || f.Code != "port-in-use" || !strings.Contains(f.Cause, "35000 is held by") {
		t.Errorf("a range with a port of a program: %v", err)
	}
	l.serve(s.NS, ":29999", "last")
	l.wantAnswer(l.outside, last, "last")
	start = time.Now()
	l.ok(l.m.Leave(context.Background(), "many"))
	t.Logf("left in %v", time.Since(start))
	l.wantSilence(l.outside, last)
}

// A firewall of the host's that drops by default has the last word; the rules that docs/networks.md tells let containers
// through, and only with a rule for oifname are they reached from outside.
func TestFirewallOfTheHost(t *testing.T) {
	l := newLab(t, Config{})
	s := l.join(JoinRequest{ContainerID: "web", Ports: ports(t, "8080>80")})
	l.serve(s.NS, ":80", "web")
	l.serve(l.outside, ":7000", "outside")
	if w := l.m.Warnings(); len(w) != 0 {
		t.Errorf("warnings on a clean host: %v", w)
	}
	accept := func(match string) { l.nft("add rule inet strict forward " + match + " accept") }
	l.nft("add table inet strict; add chain inet strict forward { type filter hook forward priority 0; policy drop; }")
	defer l.nft("delete table inet strict")
	accept("ct state established,related")
	if w := l.m.Warnings(); len(w) != 1 || !strings.Contains(w[0], `"strict"`) {
		t.Errorf("warnings %v", w)
	}
	l.wantSilence(l.outside, "198.51.100.1:8080")
	l.wantSilence(s.NS, "198.51.100.2:7000")
	accept("iifname kist0")
	l.wantAnswer(s.NS, "198.51.100.2:7000", "outside")
	l.wantSilence(l.outside, "198.51.100.1:8080")
	accept("oifname kist0")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
}
