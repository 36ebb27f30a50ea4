package network

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/filter"
)

func TestNetworks(t *testing.T) {
	ctx := context.Background()
	l := newLab(t, Config{Instance: "abc"})
	names := func(f filter.Args) string {
		t.Helper()
		list, err := l.m.List(ctx, f)
		l.ok(err)
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		return strings.Join(names, " ")
	}
	for want, filters := range map[string][]filter.Args{
		"bridge host none": {nil, {"type": {"builtin"}}, {"scope": {"local"}}, {"dangling": {"false"}}, {"name": {"bridge", "o"}}},
		"bridge":           {{"driver": {"bridge"}}, {"name": {"bridge"}}, {"id": {"^" + l.m.c.networkID("bridge")[:12]}}},
		"none":             {{"driver": {"null"}}},
		"":                 {{"dangling": {"true"}}, {"type": {"custom"}}, {"label": {"x"}}, {"driver": {"overlay"}}},
	} {
		for _, f := range filters {
			if got := names(f); got != want {
				t.Errorf("%v: %q, want %q", f, got, want)
			}
		}
	}
	for _, f := range []filter.Args{{"colour": {"red"}}, {"type": {"odd"}}, {"dangling": {"perhaps"}}} {
		if _, err := l.m.List(ctx, f); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%v: %v", f, err)
		}
	}

	s := l.join(JoinRequest{ContainerID: "c1", Name: "web"})
	full, err := l.m.Inspect(ctx, "bridge")
	l.ok(err)
	if full.Options["com.docker.network.bridge.name"] != "kist0" || full.Options["com.docker.network.driver.mtu"] != "1400" || len(full.IPAM.Config) != 1 {
		t.Errorf("%+v", full)
	}
	want := map[string]network.EndpointResource{"c1": {
		Name: "web", EndpointID: s.Networks["bridge"].EndpointID, MacAddress: s.Networks["bridge"].MacAddress, IPv4Address: l.m.attached["c1"].ends[0].addr,
	}}
	if d := cmp.Diff(want, full.Containers, cmp.Comparer(func(a, b network.EndpointResource) bool {
		return a.Name == b.Name && a.EndpointID == b.EndpointID && a.IPv4Address == b.IPv4Address && a.MacAddress.String() == b.MacAddress.String()
	})); d != "" {
		t.Error(d)
	}
	for _, name := range []string{full.ID, full.ID[:12]} {
		if n, err := l.m.Inspect(ctx, name); err != nil || n.Name != "bridge" {
			t.Errorf("%s: %v, %v", name, n, err)
		}
	}
	for _, name := range []string{"", "web", "zzz"} {
		if _, err := l.m.Inspect(ctx, name); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestPredefinedNetworksStay(t *testing.T) {
	ctx := context.Background()
	l := newLab(t, Config{})
	if err := l.m.Remove(ctx, "bridge"); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Error(err)
	}
	if err := l.m.Remove(ctx, "mine"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
	for _, name := range []string{"bridge", "host", "none"} {
		if _, err := l.m.Create(ctx, network.CreateRequest{Name: name}); !errors.Is(err, errdefs.ErrPermissionDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, err := l.m.Prune(ctx, nil); err != nil || r.NetworksDeleted == nil || len(r.NetworksDeleted) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestStatsOfAProcess(t *testing.T) {
	l := newLab(t, Config{})
	stats, err := Stats(1 << 30)
	if err == nil {
		t.Errorf("a process that is not there: %v", stats)
	}
	stats, err = Stats(os.Getpid())
	l.ok(err)
	if _, ok := stats["up0"]; !ok {
		t.Errorf("%v", stats)
	}
	if _, ok := stats["lo"]; ok {
		t.Error("the loopback is counted")
	}
}
