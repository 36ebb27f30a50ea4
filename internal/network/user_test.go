package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"github.com/kistdev/kist/internal/fault"
)

func newUserLab(t *testing.T) *lab {
	t.Helper()
	return newLab(t, Config{DataDir: t.TempDir()})
}

func (l *lab) create(r network.CreateRequest) string {
	l.Helper()
	made, err := l.m.Create(context.Background(), r)
	l.ok(err)
	return made.ID
}

func yes() *bool { b := true; return &b }
func no() *bool  { return new(bool) }

func config(parts ...string) *network.IPAM {
	c := network.IPAMConfig{}
	for _, p := range parts {
		k, v, _ := strings.Cut(p, "=")
		switch k {
		case "subnet":
			c.Subnet = netip.MustParsePrefix(v)
		case "range":
			c.IPRange = netip.MustParsePrefix(v)
		case "gateway":
			c.Gateway = netip.MustParseAddr(v)
		default:
			c.AuxAddress = map[string]netip.Addr{k: netip.MustParseAddr(v)}
		}
	}
	return &network.IPAM{Config: []network.IPAMConfig{c}}
}

func static(addrs ...string) *network.EndpointSettings {
	c := &network.EndpointIPAMConfig{}
	for _, s := range addrs {
		if a := netip.MustParseAddr(s); a.Is4() {
			c.IPv4Address = a
		} else {
			c.IPv6Address = a
		}
	}
	return &network.EndpointSettings{IPAMConfig: c}
}

func TestUserNetwork(t *testing.T) {
	l := newUserLab(t)
	id := l.create(network.CreateRequest{Name: "app", Labels: map[string]string{"a": "b"}})
	a := l.join(JoinRequest{ContainerID: strings.Repeat("a", 64), Name: "a", Network: "app", Ports: ports(t, "8080>80")})
	b := l.join(JoinRequest{ContainerID: strings.Repeat("b", 64), Name: "b", Hostname: "bb", Network: id[:12], Endpoint: &network.EndpointSettings{Aliases: []string{"db"}}})
	c := l.join(JoinRequest{ContainerID: "c"})
	l.serve(a.NS, ":80", "a")
	l.serve(c.NS, ":80", "c")
	l.serve(l.outside, ":7000", "outside")
	addr := func(s *Sandbox, name string) string { return s.Networks[name].IPAddress.String() }
	l.wantAnswer(b.NS, addr(a, "app")+":80", "a "+addr(b, "app"))
	l.wantAnswer(l.outside, "198.51.100.1:8080", "a 198.51.100.2")
	l.wantAnswer(nil, "127.0.0.1:8080", "a")
	l.wantAnswer(b.NS, "198.51.100.1:8080", "a") // hairpin
	l.wantAnswer(c.NS, "198.51.100.1:8080", "a") // from another network
	l.wantAnswer(b.NS, "198.51.100.2:7000", "outside 198.51.100.1")
	l.wantSilence(c.NS, addr(a, "app")+":80")
	l.wantSilence(b.NS, addr(c, "bridge")+":80")
	if got := strings.Join(b.Networks["app"].DNSNames, " "); got != "b db bbbbbbbbbbbb bb" {
		t.Errorf("names %q", got)
	}
	if len(c.Networks["bridge"].DNSNames) != 0 {
		t.Errorf("names on the default bridge: %v", c.Networks["bridge"].DNSNames)
	}
	n, err := l.m.Inspect(context.Background(), "app")
	l.ok(err)
	if n.ID != id || len(n.Containers) != 2 || n.EnableIPv6 || n.Labels["a"] != "b" || n.IPAM.Config[0].Subnet.String() != "172.18.0.0/20" {
		t.Errorf("%+v", n)
	}
	if u := n.Status.IPAM.Subnets[netip.MustParsePrefix("172.18.0.0/20")]; u.IPsInUse != 5 || u.DynamicIPsAvailable != 4096-5 {
		t.Errorf("usage %+v", u)
	}
	err = l.m.Remove(context.Background(), "app")
	if f, ok := fault.As(err); !ok || f.Code != "network-in-use" || !strings.Contains(f.Cause, "a, b") {
		t.Errorf("removed in use: %v", err)
	}
}

// A container that comes back soon finds its addresses; one that was removed leaves them to others.
func TestAddressesAreKept(t *testing.T) {
	l := newUserLab(t)
	l.create(network.CreateRequest{Name: "app", EnableIPv6: yes(), IPAM: config("subnet=10.9.0.0/29")})
	join := func(id string) *Sandbox {
		t.Helper()
		s, err := l.m.Join(context.Background(), JoinRequest{ContainerID: id, Network: "app"})
		l.ok(err)
		return s
	}
	leave := func(id string, s *Sandbox) {
		t.Helper()
		l.ok(l.m.Leave(context.Background(), id))
		s.Close()
	}
	a := join("a")
	was := a.Networks["app"]
	leave("a", a)
	other := join("b")
	defer other.Close()
	a = join("a")
	if is := a.Networks["app"]; is.IPAddress != was.IPAddress || is.GlobalIPv6Address != was.GlobalIPv6Address || is.MacAddress.String() != was.MacAddress.String() {
		t.Errorf("was %v %v, is %v %v", was.IPAddress, was.GlobalIPv6Address, is.IPAddress, is.GlobalIPv6Address)
	}
	leave("a", a)
	// The subnet has five addresses; the sixth container is given what was kept.
	for _, id := range []string{"c", "d", "e", "f"} {
		s := join(id)
		defer s.Close()
	}
	if _, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "g", Network: "app"}); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("a full network: %v", err)
	}
	leave("b", other)
	l.m.Forget("b")
	l.wantAddresses("app", 2*4)
}

// wantAddresses waits until so many addresses are taken on the network.
func (l *lab) wantAddresses(name string, want int) {
	l.Helper()
	eventually(l.T, fmt.Sprintf("the network %s has not %d addresses taken", name, want), func() bool {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		n, err := l.m.find(name)
		return err == nil && taken(n) == want
	})
}

func TestDualStack(t *testing.T) {
	l := newUserLab(t)
	l.address6("up0", "2001:db8::1/64")
	l.in(l.outside, func() { l.address6("out0", "2001:db8::2/64") })
	l.create(network.CreateRequest{Name: "both", EnableIPv6: yes()})
	l.create(network.CreateRequest{Name: "six", EnableIPv4: no(), EnableIPv6: yes()})
	l.create(network.CreateRequest{Name: "auto"}) // the host has IPv6 by now
	if n, err := l.m.Inspect(context.Background(), "auto"); err != nil || !n.EnableIPv6 || n.IPAM.Config[1].Subnet.Addr().As16()[0] != 0xfd {
		t.Errorf("%+v, %v", n, err)
	}
	a := l.join(JoinRequest{ContainerID: "a", Network: "both", Ports: ports(t, "8080>80")})
	b := l.join(JoinRequest{ContainerID: "b", Network: "six", Ports: ports(t, "8081>80")})
	l.serve(a.NS, ":80", "a")
	l.serve(b.NS, ":80", "b")
	if b.Networks["six"].IPAddress.IsValid() || !b.Networks["six"].GlobalIPv6Address.IsValid() {
		t.Errorf("%+v", b.Networks["six"])
	}
	got := fmt.Sprint(a.Ports[network.MustParsePort("80")], b.Ports[network.MustParsePort("80")])
	if want := "[{0.0.0.0 8080} {:: 8080}] [{:: 8081}]"; got != want {
		t.Errorf("ports %s, want %s", got, want)
	}
	host6 := a.Networks["both"].IPv6Gateway.String()
	l.wantAnswer(l.outside, "[2001:db8::1]:8080", "a 2001:db8::2")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "a 198.51.100.2")
	l.wantAnswer(l.outside, "[2001:db8::1]:8081", "b 2001:db8::2")
	l.wantAnswer(nil, "[2001:db8::1]:8080", "a")
	l.wantAnswer(a.NS, "["+host6+"]:8080", "a") // hairpin
	l.wantAnswer(b.NS, "[2001:db8::1]:8080", "a")
	start := time.Now()
	if got, err := l.fetch(nil, "[::1]:8080", 3*time.Second); err == nil || time.Since(start) > time.Second {
		t.Errorf("::1 answers %q after %v; want a refusal at once, so that clients go on to 127.0.0.1", got, time.Since(start))
	}
	l.wantSilence(b.NS, "["+a.Networks["both"].GlobalIPv6Address.String()+"]:80")
	l.serve(l.outside, ":7000", "outside")
	l.wantAnswer(a.NS, "[2001:db8::2]:7000", "outside 2001:db8::1")
}

func (l *lab) address6(name, prefix string) {
	l.Helper()
	link := l.link(name)
	p := netip.MustParsePrefix(prefix)
	const nodad = 2
	l.ok(netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)}, Flags: nodad}))
	l.ok(netlink.LinkSetUp(link))
}

func TestSeveralNetworks(t *testing.T) {
	l := newUserLab(t)
	l.create(network.CreateRequest{Name: "back", Internal: true})
	l.create(network.CreateRequest{Name: "front"})
	l.create(network.CreateRequest{Name: "other"})
	l.serve(l.outside, ":7000", "outside")
	db := l.join(JoinRequest{ContainerID: "db", Network: "back"})
	l.serve(db.NS, ":80", "db")
	l.wantSilence(db.NS, "198.51.100.2:7000")
	api := l.join(JoinRequest{ContainerID: "api", Name: "api", Network: "back", More: map[string]*network.EndpointSettings{"front": nil, "other": {GwPriority: 1}}, Ports: ports(t, "8080>80")})
	l.serve(api.NS, ":80", "api")
	l.wantAnswer(api.NS, db.Networks["back"].IPAddress.String()+":80", "db")
	l.wantAnswer(api.NS, "198.51.100.2:7000", "outside")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "api")
	l.in(api.NS, func() {
		for i, name := range []string{"back", "front", "other"} {
			ifc, err := net.InterfaceByName(fmt.Sprintf("eth%d", i))
			l.ok(err)
			addrs, _ := ifc.Addrs()
			if !strings.HasPrefix(fmt.Sprint(addrs), "["+api.Networks[name].IPAddress.String()+"/") {
				t.Errorf("eth%d of %s has %v, want %v", i, name, addrs, api.Networks[name].IPAddress)
			}
		}
		routes, err := netlink.RouteGet(net.ParseIP("198.51.100.2"))
		l.ok(err)
		if len(routes) != 1 || !routes[0].Gw.Equal(api.Networks["other"].Gateway.AsSlice()) {
			t.Errorf("default route %v, want via %v", routes, api.Networks["other"].Gateway)
		}
	})
	if api.Networks["back"].Gateway.IsValid() {
		t.Error("an internal network has a gateway")
	}

	// The network with the route goes: the next one has it, and the ports follow.
	_, _, err := l.m.Disconnect(context.Background(), "api", "other", api.NS)
	l.ok(err)
	l.wantAnswer(api.NS, "198.51.100.2:7000", "outside")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "api")
	l.ok(l.m.Remove(context.Background(), "other"))
	_, _, err = l.m.Disconnect(context.Background(), "api", "front", api.NS)
	l.ok(err)
	l.wantSilence(api.NS, "198.51.100.2:7000")
	l.wantSilence(l.outside, "198.51.100.1:8080")
	if _, _, err := l.m.Disconnect(context.Background(), "api", "front", api.NS); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("disconnected twice: %v", err)
	}

	// And back, with an address of choice.
	name, s, err := l.m.Connect(context.Background(), "api", "front", static("172.19.0.99"), api.NS)
	l.ok(err)
	if name != "front" || s.IPAddress.String() != "172.19.0.99" {
		t.Errorf("%s %+v", name, s)
	}
	l.wantAnswer(api.NS, "198.51.100.2:7000", "outside")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "api")
	if _, _, err := l.m.Connect(context.Background(), "api", "front", nil, api.NS); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("connected twice: %v", err)
	}
}

func TestApart(t *testing.T) {
	l := newUserLab(t)
	l.create(network.CreateRequest{Name: "apart", Options: map[string]string{optICC: "false", optMTU: "1300", optBridgeName: "mine"}})
	a := l.join(JoinRequest{ContainerID: "a", Network: "apart", Ports: ports(t, "8080>80")})
	b := l.join(JoinRequest{ContainerID: "b", Network: "apart"})
	l.serve(a.NS, ":80", "a")
	l.serve(l.outside, ":7000", "outside")
	l.wantSilence(b.NS, a.Networks["apart"].IPAddress.String()+":80")
	l.wantAnswer(b.NS, "198.51.100.2:7000", "outside")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "a")
	if mtu := l.link("mine").Attrs().MTU; mtu != 1300 {
		t.Errorf("MTU %d", mtu)
	}
	l.in(b.NS, func() {
		if mtu := l.link("eth0").Attrs().MTU; mtu != 1300 {
			t.Errorf("MTU %d in the container", mtu)
		}
	})
}

func TestPublishOnARunningContainer(t *testing.T) {
	ctx := context.Background()
	l := newUserLab(t)
	l.create(network.CreateRequest{Name: "app"})
	s := l.join(JoinRequest{ContainerID: "web", Name: "web", Network: "app", Ports: ports(t, "8080>80")})
	l.serve(s.NS, ":80", "web")
	l.serve(s.NS, ":81", "more")
	made, err := l.m.Publish(ctx, "web", ports(t, "127.0.0.1:8081>81", ">81"), nil)
	l.ok(err)
	if len(made[network.MustParsePort("81")]) != 2 || len(made[network.MustParsePort("80")]) != 1 {
		t.Errorf("%v", made)
	}
	l.wantAnswer(nil, "127.0.0.1:8081", "more")
	l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
	if _, err := l.m.Publish(ctx, "web", ports(t, "8082>82", "8080>83"), nil); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a port in use: %v", err)
	}
	l.wantSilence(l.outside, "198.51.100.1:8082")
	if _, err := l.m.Publish(ctx, "web", nil, ports(t, "9999>80")); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a port that is not published: %v", err)
	}
	made, err = l.m.Publish(ctx, "web", nil, network.PortMap{network.MustParsePort("81"): nil, network.MustParsePort("80"): nil})
	l.ok(err)
	if len(made) != 0 {
		t.Errorf("%v", made)
	}
	l.wantSilence(l.outside, "198.51.100.1:8080")
	if len(l.m.fw.Ports()) != 0 {
		t.Errorf("rules are left: %v", l.m.fw.Ports())
	}
}

// What the daemon wrote down is there again after it, and after the machine.
func TestNetworksStay(t *testing.T) {
	ctx := context.Background()
	l := bareLab(t)
	c := Config{DataDir: t.TempDir()}
	first, err := Open(ctx, c)
	l.ok(err)
	l.m = first
	l.restore()
	l.create(network.CreateRequest{Name: "app", EnableIPv6: yes()})
	l.create(network.CreateRequest{Name: "gone"})
	cid := strings.Repeat("a", 64)
	a := l.join(JoinRequest{ContainerID: cid, Name: "a", Network: "app", More: map[string]*network.EndpointSettings{"gone": nil}, Ports: ports(t, "8080>80", "9000>9000/udp")})
	l.serve(a.NS, ":80", "a")
	before, err := first.Inspect(ctx, "app")
	l.ok(err)
	l.ok(first.Close())

	l.m, err = Open(ctx, c)
	l.ok(err)
	l.restore(Held{ContainerID: cid, Name: "a", Networks: a.Networks, Ports: a.Ports})
	l.wantAnswer(l.outside, "198.51.100.1:8080", "a")
	after, err := l.m.Inspect(ctx, "app")
	l.ok(err)
	if after.ID != before.ID || after.Created != before.Created || fmt.Sprint(after.IPAM, after.Containers) != fmt.Sprint(before.IPAM, before.Containers) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	b := l.join(JoinRequest{ContainerID: "b", Network: "app"})
	if b.Networks["app"].IPAddress == a.Networks["app"].IPAddress {
		t.Error("an address was given twice")
	}
	l.wantAnswer(b.NS, a.Networks["app"].IPAddress.String()+":80", "a")
	_, _, err = l.m.Disconnect(ctx, cid, "gone", a.NS)
	l.ok(err)
	l.wantAnswer(a.NS, "198.51.100.1:8080", "a")
	l.in(a.NS, func() {
		if _, err := net.InterfaceByName("eth1"); err == nil {
			t.Error("eth1 is left")
		}
	})
	l.ok(l.m.Remove(ctx, "gone"))

	// After a reboot nothing is there but the row.
	l.ok(l.m.Leave(ctx, cid))
	a.Close()
	l.ok(l.m.Teardown(ctx))
	l.ok(l.m.Close())
	again, err := Open(ctx, c)
	l.ok(err)
	defer func() { l.ok(again.Teardown(ctx)); l.ok(again.Close()) }()
	n, err := again.Inspect(ctx, "app")
	l.ok(err)
	if n.ID != before.ID || fmt.Sprint(n.IPAM) != fmt.Sprint(before.IPAM) {
		t.Errorf("after a reboot %+v", n)
	}
	l.link(again.lans[n.ID].link.name)
}

func TestMacvlan(t *testing.T) {
	l := newUserLab(t)
	_, err := l.m.Create(context.Background(), network.CreateRequest{
		Name: "lan", Driver: "macvlan", Options: map[string]string{"parent": "up0"}, IPAM: config("subnet=198.51.100.0/24", "range=198.51.100.64/26", "gateway=198.51.100.2"),
	})
	l.ok(err)
	a, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "a", Name: "a", Network: "lan", Ports: ports(t, "8080>80")})
	if errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Skip("skip: ", err)
	}
	l.ok(err)
	defer a.Close()
	b := l.join(JoinRequest{ContainerID: "b", Network: "lan", Endpoint: &network.EndpointSettings{MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 9}}})
	l.serve(a.NS, ":80", "a")
	l.serve(l.outside, ":7000", "outside")
	addr := a.Networks["lan"].IPAddress.String()
	l.wantAnswer(l.outside, addr+":80", "a 198.51.100.2")
	l.wantAnswer(b.NS, addr+":80", "a")
	l.wantAnswer(b.NS, "198.51.100.2:7000", "outside "+b.Networks["lan"].IPAddress.String())
	if len(a.Ports[network.MustParsePort("80")]) != 0 {
		t.Errorf("ports %v", a.Ports)
	}
	_, _, err = l.m.Disconnect(context.Background(), "a", "lan", a.NS)
	l.ok(err)
	l.wantSilence(b.NS, addr+":80")
}
