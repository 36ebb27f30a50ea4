package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestJoinReachesOutThroughNAT(t *testing.T) {
	l := newLab(t, Config{})
	s := l.join(JoinRequest{ContainerID: "one", Network: "default"})
	ep := s.Networks["bridge"]
	if ep == nil || ep.IPAddress != netip.MustParseAddr("172.17.0.2") || ep.Gateway != netip.MustParseAddr("172.17.0.1") || ep.IPPrefixLen != 20 {
		t.Fatalf("endpoint %+v", ep)
	}
	if ep.MacAddress.String() != "02:42:ac:11:00:02" {
		t.Errorf("MAC address %s", ep.MacAddress)
	}
	l.serve(l.outside, ":7000", "outside")
	l.wantAnswer(s.NS, "198.51.100.2:7000", "outside 198.51.100.1")
	l.serve(nil, ":7001", "host")
	l.wantAnswer(s.NS, "172.17.0.1:7001", "host 172.17.0.2")
	l.in(s.NS, func() {
		eth := l.link("eth0")
		if eth.Attrs().MTU != 1400 {
			t.Errorf("MTU %d, want that of the default route's link", eth.Attrs().MTU)
		}
		if got := eth.Attrs().HardwareAddr.String(); got != ep.MacAddress.String() {
			t.Errorf("eth0 has %s", got)
		}
		addrs, err := netlink.AddrList(eth, netlink.FAMILY_ALL)
		l.ok(err)
		if len(addrs) != 1 {
			t.Errorf("eth0 has %v", addrs)
		}
		b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		if err != nil || strings.TrimSpace(string(b)) != "0" {
			t.Errorf("ip_unprivileged_port_start = %s, %v", b, err)
		}
	})
	if s.Resolv.Servers == nil {
		t.Error("no name servers")
	}
}

func TestContainersReachEachOther(t *testing.T) {
	l := newLab(t, Config{})
	a, b := l.join(JoinRequest{ContainerID: "a"}), l.join(JoinRequest{ContainerID: "b"})
	l.serve(a.NS, ":80", "a")
	l.wantAnswer(b.NS, a.Networks["bridge"].IPAddress.String()+":80", "a "+b.Networks["bridge"].IPAddress.String())
}

func TestNoneHasOnlyALoopback(t *testing.T) {
	for name, disabled := range map[string]bool{"with a bridge": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, Config{Disabled: disabled})
			s := l.join(JoinRequest{ContainerID: "one", Network: "none"})
			l.in(s.NS, func() {
				ifs, err := net.Interfaces()
				l.ok(err)
				if len(ifs) != 1 || ifs[0].Name != "lo" || ifs[0].Flags&net.FlagUp == 0 {
					t.Errorf("interfaces %+v", ifs)
				}
			})
			if ep := s.Networks["none"]; ep == nil || ep.NetworkID == "" || ep.EndpointID == "" || ep.IPAddress.IsValid() || len(s.Ports) != 0 {
				t.Errorf("endpoint %+v, ports %v", ep, s.Ports)
			}
			two, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "two", Network: "bridge"})
			if disabled != errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("bridge: %v", err)
			}
			if two != nil {
				two.Close()
			}
		})
	}
}

func TestJoinWithWishes(t *testing.T) {
	l := newLab(t, Config{BIP: netip.MustParsePrefix("10.77.0.1/24")})
	mac := network.HardwareAddr{2, 0, 0, 0, 0, 9}
	with := func(addr string, m network.HardwareAddr) *network.EndpointSettings {
		e := &network.EndpointSettings{MacAddress: m}
		if addr != "" {
			e.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(addr)}
		}
		return e
	}
	s := l.join(JoinRequest{
		ContainerID: "one", Endpoint: with("10.77.0.50", mac),
		Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "33", "kernel.msgmax": "ours only are those of net"},
	})
	l.in(s.NS, func() {
		addrs, err := netlink.AddrList(l.link("eth0"), netlink.FAMILY_V4)
		l.ok(err)
		if len(addrs) != 1 || addrs[0].IPNet.String() != "10.77.0.50/24" || l.link("eth0").Attrs().HardwareAddr.String() != mac.String() {
			t.Errorf("addresses %v, MAC %s", addrs, l.link("eth0").Attrs().HardwareAddr)
		}
		if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl"); err != nil || strings.TrimSpace(string(b)) != "33" {
			t.Errorf("ip_default_ttl %s %v", b, err)
		}
	})
	// The pool has the first addresses by now, or will have; they are had all the same.
	for _, a := range []string{"10.77.0.2", "10.77.0.3"} {
		l.join(JoinRequest{ContainerID: a, Endpoint: with(a, nil)})
	}
	if ep := l.join(JoinRequest{ContainerID: "mac", Endpoint: with("", mac)}).Networks["bridge"]; ep.MacAddress.String() != mac.String() {
		t.Errorf("MAC address %s", ep.MacAddress)
	}
	for _, tt := range []struct {
		name  string
		r     JoinRequest
		class error
		says  string
	}{
		{"address in use", JoinRequest{Endpoint: with("10.77.0.50", nil)}, errdefs.ErrConflict, "another container has it"},
		{"gateway", JoinRequest{Endpoint: with("10.77.0.1", nil)}, errdefs.ErrConflict, "gateway"},
		{"outside", JoinRequest{Endpoint: with("10.78.0.1", nil)}, errdefs.ErrInvalidArgument, "10.77.0.0/24"},
		{"broadcast", JoinRequest{Endpoint: with("10.77.0.255", nil)}, errdefs.ErrInvalidArgument, "10.77.0.0/24"},
		{"group MAC", JoinRequest{Endpoint: with("", network.HardwareAddr{1, 0, 0, 0, 0, 9})}, errdefs.ErrInvalidArgument, "MAC"},
		{"unknown network", JoinRequest{Network: "web"}, errdefs.ErrNotFound, "network web not found"},
		{"unknown sysctl", JoinRequest{Sysctls: map[string]string{"net.ipv4.nonsense": "1"}}, errdefs.ErrInvalidArgument, "nonsense"},
		{"bad sysctl", JoinRequest{Sysctls: map[string]string{"net.ipv4.ip_forward": "maybe"}}, errdefs.ErrInvalidArgument, "refuses"},
		{"sysctl that climbs", JoinRequest{Sysctls: map[string]string{"net.//.kernel.hostname": "evil"}}, errdefs.ErrInvalidArgument, "invalid sysctl"},
	} {
		tt.r.ContainerID = "bad"
		_, err := l.m.Join(context.Background(), tt.r)
		if !errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A container with a static address that restarts at once waits until its last veth pair is gone, also when the subnet
// is so small that any container must wait.
func TestRestartWithAStaticAddress(t *testing.T) {
	l := newLab(t, Config{BIP: netip.MustParsePrefix("10.77.0.1/29")})
	static := &network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.77.0.4")}}
	for i := range 6 {
		for _, e := range []*network.EndpointSettings{static, nil} {
			s, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "one", Endpoint: e})
			if err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
			s.Close()
			l.ok(l.m.Leave(context.Background(), "one"))
		}
	}
}

func TestJoinBeforeRestore(t *testing.T) {
	l := bareLab(t)
	l.m = l.open(Config{})
	if _, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "x"}); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("Join before Restore: %v", err)
	}
}

// The names, the addresses and the rules of one daemon are not those of another.
func TestManagersSideBySide(t *testing.T) {
	l := newLab(t, Config{})
	other := l.open(Config{Instance: "b2c3d4e5"})
	l.ok(other.Restore(context.Background(), nil))
	s := l.join(JoinRequest{ContainerID: "one", Ports: ports(t, "8080>80")})
	o, err := other.Join(context.Background(), JoinRequest{ContainerID: "one"})
	l.ok(err)
	defer o.Close()
	if got := o.Networks["bridge"].IPAddress; !netip.MustParsePrefix("172.18.0.0/20").Contains(got) {
		t.Errorf("the second daemon's container has %s", got)
	}
	l.serve(s.NS, ":80", "first")
	l.wantAnswer(o.NS, "198.51.100.1:8080", "first 172.17.0.1")
	l.wantSilence(o.NS, s.Networks["bridge"].IPAddress.String()+":80")
	l.ok(other.Teardown(context.Background()))
	l.wantAnswer(l.outside, "198.51.100.1:8080", "first")
	l.link("kist0")
}

func TestFiveHundredCyclesLeaveNothing(t *testing.T) {
	l := newLab(t, Config{})
	for i := range 500 {
		r := JoinRequest{ContainerID: "c"}
		if i%10 == 0 {
			r.Ports = ports(t, "8080>80", "8080>80/udp")
		}
		s, err := l.m.Join(context.Background(), r)
		l.ok(err)
		s.Close()
		l.ok(l.m.Leave(context.Background(), "c"))
	}
	l.ok(l.m.Leave(context.Background(), "c"))
	l.ok(l.m.Leave(context.Background(), "never was"))
	eventually(t, "addresses are left", func() bool {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		l.m.wired.mu.Lock()
		defer l.m.wired.mu.Unlock()
		return taken(l.m.lan) == len(l.m.wired.ready)
	})
	if len(l.m.ports.held) != 0 || len(l.m.fw.Ports()) != 0 {
		t.Errorf("left: ports %v, rules %v", l.m.ports.held, l.m.fw.Ports())
	}
}

// Both ends of the wire are awake when a container gets it. The kernel drops packets until then, and one that is dropped is
// sent again only after a second.
func TestWireIsAwake(t *testing.T) {
	l := newLab(t, Config{})
	awake := func(name string) bool {
		t.Helper()
		r, err := unix.NewIfreq(name)
		l.ok(err)
		l.ok(unix.IoctlIfreq(l.m.sweep.sock, unix.SIOCGIFFLAGS, r))
		return r.Uint16()&unix.IFF_RUNNING != 0
	}
	for range 50 {
		p, err := l.m.wire()
		l.ok(err)
		if !awake(p.veth) || !awake("kist0") {
			t.Errorf("awake: %s %v, kist0 %v", p.veth, awake(p.veth), awake("kist0"))
		}
		p.ns.Close()
		l.m.sweep.add(&p.endpoint)
	}
}
