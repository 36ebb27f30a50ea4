package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestChooseSubnet(t *testing.T) {
	prefixes := func(s string) (list []netip.Prefix) {
		for _, p := range strings.Fields(s) {
			list = append(list, netip.MustParsePrefix(p))
		}
		return list
	}
	for _, tt := range []struct{ used, want string }{
		{"", "172.17.0.0/20"},
		{"0.0.0.0/0 192.0.2.0/24", "172.17.0.0/20"},
		{"172.17.0.0/16", "172.18.0.0/20"},
		{"172.17.15.0/24 172.18.3.4/32", "172.19.0.0/20"},
		{"172.17.16.0/24", "172.17.0.0/20"},
		{"172.16.0.0/12", "192.168.0.0/20"},
		{"172.16.0.0/12 192.168.1.0/24", "192.168.16.0/20"},
		{"172.16.0.0/12 192.168.0.0/16", "10.0.0.0/20"},
		{"172.16.0.0/12 192.168.0.0/16 10.0.0.0/9", "10.128.0.0/20"},
		{"172.16.0.0/12 192.168.0.0/16 10.0.0.0/8", ""},
		{"0.0.0.0/1 128.0.0.0/1", ""}, // a VPN that takes everything
	} {
		got, err := Choose4(prefixes(tt.used))
		if tt.want == "" {
			if !errors.Is(err, errdefs.ErrFailedPrecondition) {
				t.Errorf("%s: %v, %v", tt.used, got, err)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.used, got, err, tt.want)
		}
	}
}

func TestAddressesGoRound(t *testing.T) {
	a := NewPool(netip.MustParsePrefix("10.0.0.0/29"), netip.Prefix{}, netip.MustParseAddr("10.0.0.1"), nil)
	take := func(owner string) string {
		t.Helper()
		got, err := a.take(owner)
		if err != nil {
			t.Fatal(err)
		}
		return got.String()
	}
	var got []string
	for range 4 {
		got = append(got, take("x"))
	}
	a.release(netip.MustParseAddr("10.0.0.2"), "x")
	got = append(got, take("x"), take("x"))
	if d := cmp.Diff([]string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"}, got); d != "" {
		t.Error(d)
	}
	if _, err := a.take("y"); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("a full subnet: %v", err)
	}
	a.release(netip.MustParseAddr("10.0.0.4"), "not the owner")
	if _, err := a.take("y"); err == nil {
		t.Error("an address was freed by another than its owner")
	}
	a.release(netip.MustParseAddr("10.0.0.4"), "x")
	if got := take("y"); got != "10.0.0.4" {
		t.Error(got)
	}
	if err := a.claim(netip.MustParseAddr("10.0.0.4"), "y"); err != nil {
		t.Errorf("the owner's own address: %v", err)
	}
}

// A developer does not run out of networks: hundreds fit beside each other, and then what is between them is taken.
func TestChooseHundreds(t *testing.T) {
	var used []netip.Prefix
	for range 320 {
		p, err := Choose4(used)
		if err != nil {
			t.Fatalf("after %d: %v", len(used), err)
		}
		if Overlaps(p, used) {
			t.Fatalf("%s was given twice", p)
		}
		used = append(used, p)
	}
}

func TestChoose6(t *testing.T) {
	n := byte(0)
	random := func(b []byte) (int, error) {
		for i := range b {
			b[i] = n
		}
		n++
		return len(b), nil
	}
	used := []netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("fd00::/60")}
	p, err := Choose6(used, random)
	if err != nil || p.String() != "fd01:101:101:101::/64" {
		t.Errorf("%s, %v", p, err)
	}
	if _, err := Choose6(nil, func([]byte) (int, error) { return 0, errors.New("no entropy") }); err == nil {
		t.Error("without random bytes")
	}
}

func TestPool(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	for _, tt := range []struct {
		name, subnet, span, gateway, aux string
		want                             string // all there is to have, in order
	}{
		{"gateway in the middle", "10.0.0.0/29", "", "10.0.0.3", "", "10.0.0.1 10.0.0.2 10.0.0.4 10.0.0.5 10.0.0.6"},
		{"range", "10.0.0.0/24", "10.0.0.128/30", "10.0.0.1", "", "10.0.0.128 10.0.0.129 10.0.0.130 10.0.0.131"},
		{"range with the broadcast address", "10.0.0.0/24", "10.0.0.252/30", "10.0.0.1", "10.0.0.253", "10.0.0.252 10.0.0.254"},
		{"two addresses", "10.0.0.0/31", "", "10.0.0.0", "", "10.0.0.1"},
		{"no gateway", "10.0.0.0/30", "", "", "", "10.0.0.1 10.0.0.2"},
		{"IPv6", "fd00::/126", "", "fd00::1", "", "fd00::2 fd00::3"},
	} {
		var gateway netip.Addr
		if tt.gateway != "" {
			gateway = addr(tt.gateway)
		}
		var span netip.Prefix
		if tt.span != "" {
			span = prefix(tt.span)
		}
		aux := map[string]netip.Addr{}
		if tt.aux != "" {
			aux["nas"] = addr(tt.aux)
		}
		p := NewPool(prefix(tt.subnet), span, gateway, aux)
		_, available := p.Count()
		var got []string
		for range 100 {
			a, err := p.take("x")
			if err != nil {
				break
			}
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != tt.want || available != uint64(len(got)) {
			t.Errorf("%s: %v (%d announced), want %s", tt.name, got, available, tt.want)
		}
		if _, available := p.Count(); available != 0 {
			t.Errorf("%s: %d available when all are taken", tt.name, available)
		}
	}
	six := NewPool(prefix("fd00::/64"), netip.Prefix{}, addr("fd00::1"), nil)
	for _, want := range []string{"fd00::2", "fd00::3"} {
		if a, err := six.take("x"); err != nil || a.String() != want {
			t.Errorf("%s, %v; want %s", a, err, want)
		}
	}
	if err := six.claim(addr("fd00::ffff"), "y"); err != nil {
		t.Error(err)
	}
	if used, free := six.Count(); used != 5 || free < 1<<63 { // the subnet's own, the gateway, three
		t.Errorf("%d used, %d free", used, free)
	}
}

func TestGroup(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	g := Group{NewPool(prefix("10.0.0.0/30"), netip.Prefix{}, addr("10.0.0.1"), nil), NewPool(prefix("10.1.0.0/30"), netip.Prefix{}, addr("10.1.0.1"), nil)}
	for _, want := range []string{"10.0.0.2", "10.1.0.2"} {
		if a, p, err := g.Take("x"); err != nil || a.String() != want || !p.Subnet().Contains(a) {
			t.Errorf("%s, %v; want %s", a, err, want)
		}
	}
	if _, _, err := g.Take("x"); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("all are taken: %v", err)
	}
	if _, err := g.Claim(addr("10.2.0.1"), "x"); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "10.0.0.0/30, 10.1.0.0/30") {
		t.Errorf("outside: %v", err)
	}
	if _, err := (Group{}).Claim(addr("10.2.0.1"), "x"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("of no subnet: %v", err)
	}
	if _, _, err := (Group{}).Take("x"); err == nil {
		t.Error("took an address of no subnet")
	}
	g.Free(addr("10.1.0.2"), "x")
	if _, taken := g[1].taken[addr("10.1.0.2")]; taken {
		t.Error("not freed")
	}
	if p, err := g.Claim(addr("10.1.0.2"), "y"); err != nil || p != g[1] {
		t.Error(err)
	}
	if by := g[1].taken[addr("10.1.0.2")]; by != "y" {
		t.Errorf("owner %q", by)
	}
}
