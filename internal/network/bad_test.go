package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
)

func TestBadNetworks(t *testing.T) {
	l := newUserLab(t)
	l.create(network.CreateRequest{Name: "app", IPAM: config("subnet=10.5.0.0/24", "range=10.5.0.128/25", "nas=10.5.0.200")})
	opts := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for _, p := range pairs {
			k, v, _ := strings.Cut(p, "=")
			m[k] = v
		}
		return m
	}
	for name, tt := range map[string]struct {
		r     network.CreateRequest
		class error
		says  string
	}{
		"same name":           {network.CreateRequest{Name: "app"}, errdefs.ErrConflict, "already exists"},
		"odd name":            {network.CreateRequest{Name: "a b"}, errdefs.ErrInvalidArgument, "a b"},
		"unknown driver":      {network.CreateRequest{Name: "x", Driver: "overlaid"}, errdefs.ErrNotFound, "overlaid"},
		"second host":         {network.CreateRequest{Name: "x", Driver: "host"}, errdefs.ErrPermissionDenied, "only one"},
		"unknown option":      {network.CreateRequest{Name: "x", Options: opts("com.docker.network.bridge.enable_iccc=true")}, errdefs.ErrInvalidArgument, "enable_icc"},
		"bad option":          {network.CreateRequest{Name: "x", Options: opts("com.docker.network.driver.mtu=big")}, errdefs.ErrInvalidArgument, "big"},
		"long bridge name":    {network.CreateRequest{Name: "x", Options: opts("com.docker.network.bridge.name=sixteen-letters!")}, errdefs.ErrInvalidArgument, "15"},
		"bridge in use":       {network.CreateRequest{Name: "x", Options: opts("com.docker.network.bridge.name=kist0")}, errdefs.ErrConflict, "bridge"},
		"bridge is no bridge": {network.CreateRequest{Name: "x", Options: opts("com.docker.network.bridge.name=up0")}, errdefs.ErrConflict, "not ours"},
		"overlap":             {network.CreateRequest{Name: "x", IPAM: config("subnet=10.5.0.0/16")}, errdefs.ErrPermissionDenied, "the network app has 10.5.0.0/24"},
		"overlap with bridge": {network.CreateRequest{Name: "x", IPAM: config("subnet=172.17.1.0/24")}, errdefs.ErrPermissionDenied, "the network bridge has"},
		"overlap with host":   {network.CreateRequest{Name: "x", IPAM: config("subnet=198.51.100.0/25")}, errdefs.ErrPermissionDenied, "up0"},
		"host bits":           {network.CreateRequest{Name: "x", IPAM: config("subnet=10.6.0.1/24")}, errdefs.ErrInvalidArgument, "it should be 10.6.0.0/24"},
		"range outside":       {network.CreateRequest{Name: "x", IPAM: config("subnet=10.6.0.0/24", "range=10.7.0.0/25")}, errdefs.ErrInvalidArgument, "ip-range"},
		"gateway outside":     {network.CreateRequest{Name: "x", IPAM: config("subnet=10.6.0.0/24", "gateway=10.7.0.1")}, errdefs.ErrInvalidArgument, "gateway"},
		"gateway taken":       {network.CreateRequest{Name: "x", IPAM: config("subnet=10.6.0.0/24", "gateway=10.6.0.9", "nas=10.6.0.9")}, errdefs.ErrInvalidArgument, "auxiliary"},
		"no subnet":           {network.CreateRequest{Name: "x", IPAM: config("gateway=10.7.0.1")}, errdefs.ErrInvalidArgument, "without a subnet"},
		"one address":         {network.CreateRequest{Name: "x", IPAM: config("subnet=10.6.0.1/32")}, errdefs.ErrInvalidArgument, "room"},
		"multicast":           {network.CreateRequest{Name: "x", IPAM: config("subnet=224.0.0.0/24")}, errdefs.ErrInvalidArgument, "224"},
		"no family":           {network.CreateRequest{Name: "x", EnableIPv4: no(), EnableIPv6: no()}, errdefs.ErrInvalidArgument, "IPv4 or IPv6"},
		"other family":        {network.CreateRequest{Name: "x", EnableIPv6: no(), IPAM: config("subnet=fd00:5::/64")}, errdefs.ErrInvalidArgument, "family"},
		"IPAM driver":         {network.CreateRequest{Name: "x", IPAM: &network.IPAM{Driver: "dhcp"}}, errdefs.ErrNotFound, "dhcp"},
		"swarm":               {network.CreateRequest{Name: "x", Scope: "swarm"}, errdefs.ErrNotImplemented, "several machines"},
		"no parent":           {network.CreateRequest{Name: "x", Driver: "macvlan", Options: opts("parent=eth77")}, errdefs.ErrInvalidArgument, "eth77"},
		"isolated":            {network.CreateRequest{Name: "x", Options: opts("com.docker.network.bridge.gateway_mode_ipv4=isolated")}, errdefs.ErrInvalidArgument, "internal"},
	} {
		_, err := l.m.Create(context.Background(), tt.r)
		if !errors.Is(err, tt.class) || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(l.m.lans); n != 4 {
		t.Errorf("%d networks are left", n)
	}

	l.join(JoinRequest{ContainerID: "a", Name: "a", Network: "app", Endpoint: static("10.5.0.7")})
	for name, tt := range map[string]struct {
		r     JoinRequest
		class error
		says  string
	}{
		"unknown network": {JoinRequest{Network: "apps"}, errdefs.ErrNotFound, "app"},
		"address in use":  {JoinRequest{Network: "app", Endpoint: static("10.5.0.7")}, errdefs.ErrConflict, "another container"},
		"gateway":         {JoinRequest{Network: "app", Endpoint: static("10.5.0.1")}, errdefs.ErrConflict, "gateway"},
		"set aside":       {JoinRequest{Network: "app", Endpoint: static("10.5.0.200")}, errdefs.ErrConflict, "nas"},
		"outside":         {JoinRequest{Network: "app", Endpoint: static("10.6.0.7")}, errdefs.ErrInvalidArgument, "10.5.0.0/24"},
		"IPv6":            {JoinRequest{Network: "app", Endpoint: static("fd00::7")}, errdefs.ErrInvalidArgument, "--ipv6"},
		"twice":           {JoinRequest{Network: "app", More: map[string]*network.EndpointSettings{"app": nil}}, errdefs.ErrInvalidArgument, "twice"},
		"none and more":   {JoinRequest{Network: "none", More: map[string]*network.EndpointSettings{"app": nil}}, errdefs.ErrInvalidArgument, "none"},
		"host":            {JoinRequest{Network: "app", More: map[string]*network.EndpointSettings{"host": nil}}, errdefs.ErrInvalidArgument, "host"},
		"endpoint option": {JoinRequest{Network: "app", Endpoint: &network.EndpointSettings{DriverOpts: opts("colour=red")}}, errdefs.ErrInvalidArgument, "colour"},
		"interface name":  {JoinRequest{Network: "app", Endpoint: &network.EndpointSettings{DriverOpts: opts(optIfName + "=a/b")}}, errdefs.ErrInvalidArgument, "a/b"},
		"IPv6 port":       {JoinRequest{Network: "app", Ports: network.PortMap{network.MustParsePort("80"): {{HostIP: netip.IPv6Loopback(), HostPort: "80"}}}}, errdefs.ErrInvalidArgument, "IPv6"},
		"group's MAC":     {JoinRequest{Network: "app", Endpoint: &network.EndpointSettings{MacAddress: network.HardwareAddr{1, 2, 3, 4, 5, 6}}}, errdefs.ErrInvalidArgument, "MAC"},
		"endpoint sysctl": {JoinRequest{Network: "app", Endpoint: &network.EndpointSettings{DriverOpts: opts(optSysctls + "=net.ipv4.conf.all.forwarding=1")}}, errdefs.ErrInvalidArgument, "IFNAME"},
	} {
		tt.r.ContainerID = "x"
		_, err := l.m.Join(context.Background(), tt.r)
		if !errors.Is(err, tt.class) || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.wantAddresses("app", 1)
}

// A network that is removed while containers start on it: each start succeeds or says so, and nothing is left.
func TestNetworkVanishes(t *testing.T) {
	ctx := context.Background()
	l := newUserLab(t)
	for i := range 5 {
		name := fmt.Sprint("net", i)
		l.create(network.CreateRequest{Name: name})
		type result struct {
			s   *Sandbox
			err error
		}
		results := make(chan result)
		for j := range 4 {
			go func() {
				s, err := l.m.Join(ctx, JoinRequest{ContainerID: fmt.Sprint(i, "-", j), Network: name})
				results <- result{s, err}
			}()
		}
		removed := l.m.Remove(ctx, name)
		var open []*Sandbox
		for range 4 {
			r := <-results
			switch {
			case r.err == nil:
				open = append(open, r.s)
			case !errors.Is(r.err, errdefs.ErrNotFound):
				t.Errorf("start: %v", r.err)
			}
		}
		if removed == nil && len(open) > 0 {
			t.Errorf("%d containers are on a network that was removed", len(open))
		}
		for j := range 4 {
			l.ok(l.m.Leave(ctx, fmt.Sprint(i, "-", j)))
		}
		for _, f := range open {
			f.Close()
		}
		if removed != nil {
			l.ok(l.m.Remove(ctx, name))
		}
	}
}
