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
		got, err := a.Take(owner)
		if err != nil {
			t.Fatal(err)
		}
		return got.String()
	}
	var got []string
	for range 4 {
		got = append(got, take("x"))
	}
	a.Free(netip.MustParseAddr("10.0.0.2"), "x")
	got = append(got, take("x"), take("x"))
	if d := cmp.Diff([]string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"}, got); d != "" {
		t.Error(d)
	}
	if _, err := a.Take("y"); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("a full subnet: %v", err)
	}
	a.Free(netip.MustParseAddr("10.0.0.4"), "not the owner")
	if _, err := a.Take("y"); err == nil {
		t.Error("an address was freed by another than its owner")
	}
	a.Free(netip.MustParseAddr("10.0.0.4"), "x")
	if got := take("y"); got != "10.0.0.4" {
		t.Error(got)
	}
	if err := a.Claim(netip.MustParseAddr("10.0.0.4"), "y"); err != nil {
		t.Errorf("the owner's own address: %v", err)
	}
}
