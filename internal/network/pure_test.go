package network

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network/firewall"
	"github.com/kistdev/kist/internal/testbed/suite"
)

func TestWishes(t *testing.T) {
	port := network.MustParsePort
	addr := netip.MustParseAddr
	all := []netip.Addr{every}
	for _, tt := range []struct {
		name string
		r    JoinRequest
		want []wish
		err  error
	}{
		{"nothing", JoinRequest{}, nil, nil},
		{
			"in the order of the container's ports",
			JoinRequest{Ports: ports(t, "8443>443", "8080>80", "53>53/udp", "53>53")},
			[]wish{{port: port("53"), addrs: all, from: 53, to: 53}, {port: port("80"), addrs: all, from: 8080, to: 8080}, {port: port("443"), addrs: all, from: 8443, to: 8443}, {port: port("53/udp"), addrs: all, from: 53, to: 53}},
			nil,
		},
		{"address", JoinRequest{Ports: ports(t, "127.0.0.1:80>80")}, []wish{{port: port("80"), addrs: []netip.Addr{addr("127.0.0.1")}, from: 80, to: 80}}, nil},
		{
			"mapped address",
			JoinRequest{Ports: network.PortMap{port("81"): {{HostIP: addr("::ffff:10.0.0.1"), HostPort: "81"}}}},
			[]wish{{port: port("81"), addrs: []netip.Addr{addr("10.0.0.1")}, from: 81, to: 81}},
			nil,
		},
		{"range", JoinRequest{Ports: ports(t, "8000-8010>80")}, []wish{{port: port("80"), addrs: all, from: 8000, to: 8010}}, nil},
		{"any", JoinRequest{Ports: ports(t, ">80", "0>81")}, []wish{{port: port("80"), addrs: all, from: 0, to: 0}, {port: port("81"), addrs: all, from: 0, to: 0}}, nil},
		{
			"all exposed",
			JoinRequest{PublishAll: true, Ports: network.PortMap{port("80"): {{HostPort: "8080"}}, port("81"): nil}, Exposed: network.PortSet{port("80"): {}, port("81"): {}, port("82/udp"): {}}},
			[]wish{{port: port("80"), addrs: all, from: 8080, to: 8080}, {port: port("81"), addrs: all, from: 0, to: 0}, {port: port("82/udp"), addrs: all, from: 0, to: 0}},
			nil,
		},
		{"exposed only", JoinRequest{Exposed: network.PortSet{port("80"): {}}, Ports: network.PortMap{port("81"): {}}}, nil, nil},
		{"IPv6", JoinRequest{Ports: network.PortMap{port("80"): {{HostIP: addr("::1")}}}}, nil, errdefs.ErrInvalidArgument},
		{"backward range", JoinRequest{Ports: ports(t, "81-80>80")}, nil, errdefs.ErrInvalidArgument},
		{"open range", JoinRequest{Ports: ports(t, "80->80")}, nil, errdefs.ErrInvalidArgument},
		{"range from 0", JoinRequest{Ports: ports(t, "0-9>80")}, nil, errdefs.ErrInvalidArgument},
		{"too high", JoinRequest{Ports: ports(t, "65536>80")}, nil, errdefs.ErrInvalidArgument},
		{"no number", JoinRequest{Ports: ports(t, "http>80")}, nil, errdefs.ErrInvalidArgument},
		{"unknown protocol", JoinRequest{Ports: ports(t, "80>80/icmp")}, nil, errdefs.ErrInvalidArgument},
		{"container port 0", JoinRequest{Ports: ports(t, "80>0")}, nil, errdefs.ErrInvalidArgument},
	} {
		got, err := wishes(&tt.r, paths{v4: true})
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(wish{}), cmpopts.EquateComparable(network.Port{}, netip.Addr{})); err == nil && d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func TestParseResolv(t *testing.T) {
	const file = "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2 # near\nnameserver fe80::1%eth0\nnameserver nonsense\n" +
		"search a.example\ndomain b.example\nsearch c.example d.example\n; more\noptions ndots:2\noptions edns0 trust-ad\nnameserver\nsortlist 1.2.3.4\n"
	addr := netip.MustParseAddr
	got := parseResolv([]byte(file))
	want := ResolvConf{
		Servers: []netip.Addr{addr("127.0.0.53"), addr("10.0.0.2"), addr("fe80::1%eth0")},
		Search:  []string{"c.example", "d.example"}, Options: []string{"ndots:2", "edns0", "trust-ad"},
	}
	compare := cmpopts.EquateComparable(netip.Addr{})
	if d := cmp.Diff(want, got, compare); d != "" {
		t.Error(d)
	}
	want.Servers = []netip.Addr{addr("10.0.0.2")}
	if d := cmp.Diff(want, got.forContainers(), compare); d != "" {
		t.Error(d)
	}
	for _, none := range []string{"", "nameserver 127.0.0.1\nnameserver ::1\n"} {
		if got := parseResolv([]byte(none)).forContainers().Servers; !cmp.Equal(got, fallbackServers, compare) {
			t.Errorf("%q: %v", none, got)
		}
	}
}

func TestRenderResolv(t *testing.T) {
	host := parseResolv([]byte("nameserver 10.0.0.2\nsearch example.com\noptions ndots:2\n"))
	for _, tt := range []struct {
		c    ResolvConf
		want string
	}{
		{ResolvConf{Servers: host.Servers, Search: []string{"."}, Options: []string{"timeout:1", "rotate"}}, "nameserver 10.0.0.2\noptions timeout:1 rotate\n"},
		{host, "nameserver 10.0.0.2\nsearch example.com\noptions ndots:2\n"},
	} {
		if d := cmp.Diff(tt.want, string(RenderResolv(tt.c))); d != "" {
			t.Error(d)
		}
	}
}

func TestRenderHosts(t *testing.T) {
	got, err := RenderHosts(Hosts{
		Hostname: "web", Domainname: "example.com",
		Addrs:   []netip.Addr{netip.MustParseAddr("172.17.0.2"), {}},
		Extra:   []string{"db:10.0.0.5", "six:2001:db8::1", "bracket:[::1]", "equals=10.0.0.6", "gw:host-gateway"},
		Gateway: netip.MustParseAddr("172.17.0.1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	suite.Golden(t, "hosts.golden", string(got))
	for _, bad := range []string{"name", ":10.0.0.1", "x:", "x:nonsense", "two words:10.0.0.1", "a\n10.0.0.1 b:10.0.0.1", "gw:host-gateway"} {
		if _, err := RenderHosts(Hosts{Extra: []string{bad}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseNetDev(t *testing.T) {
	const file = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    1000      10    1    2    0     0          0         0     2000      20    3    4    0     0       0          0
eth1:18446744073709551615 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
`
	got, err := parseNetDev([]byte(file))
	want := map[string]container.NetworkStats{
		"eth0": {RxBytes: 1000, RxPackets: 10, RxErrors: 1, RxDropped: 2, TxBytes: 2000, TxPackets: 20, TxErrors: 3, TxDropped: 4},
		"eth1": {RxBytes: 1<<64 - 1, RxPackets: 1, RxErrors: 1, RxDropped: 1, TxBytes: 1, TxPackets: 1, TxErrors: 1, TxDropped: 1},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	for _, bad := range []string{"eth0: 1 2 3\n", "eth0: a 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"} {
		if _, err := parseNetDev([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestSocketInodes(t *testing.T) {
	const file = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11111 1 0 100 0 0 10 0
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22222 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 33333 1 0 100 0 0 10 0
   3: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 44444 1
   4: 0000000000000000FFFF00000200000A:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 55555 1
   5: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 66666 1 0 100 0 0 10 0
   6: nonsense
`
	for addr, want := range map[string]string{
		"127.0.0.1": "11111 22222 44444",
		"10.0.0.2":  "22222 44444 55555",
		"0.0.0.0":   "11111 22222 44444 55555",
	} {
		var got []string
		for _, s := range readSockets([]byte(file), firewall.One(netip.MustParseAddr(addr), network.TCP, 8080)) {
			got = append(got, s.inode)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"instance": {Instance: "nine chars"}, "long instance": {Instance: "123456789"}, "bridge": {Bridge: "sixteen-letters!"},
		"network address": {BIP: netip.MustParsePrefix("10.0.0.0/24")}, "broadcast": {BIP: netip.MustParsePrefix("10.0.0.255/24")},
		"one address": {BIP: netip.MustParsePrefix("10.0.0.1/32")}, "IPv6": {BIP: netip.MustParsePrefix("fd00::1/64")},
	} {
		if err := c.validate(); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := Config{Instance: "12345678"}
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	id := newID()
	if veth := c.vethName(id); len(veth) != maxIfName || !strings.HasPrefix(veth, "12345678v"+id[:6]) {
		t.Errorf("veth %s", veth)
	}
	if a, b := c.networkID("bridge"), (&Config{Instance: "other"}).networkID("bridge"); len(a) != 64 || a == b || a != c.networkID("bridge") {
		t.Errorf("ids %s, %s", a, b)
	}
}
