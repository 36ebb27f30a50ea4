package network

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
)

// Containers come and go on several networks while daemons die at any moment, the machine's among them: what is left in the
// end is what was there in the beginning.
func TestCyclesWithKillsLeaveNothing(t *testing.T) {
	ctx := context.Background()
	l := bareLab(t)
	c := Config{DataDir: t.TempDir()}
	var err error
	l.m, err = Open(ctx, c)
	l.ok(err)
	l.restore()
	l.create(network.CreateRequest{Name: "one", EnableIPv6: yes()})
	l.create(network.CreateRequest{Name: "two", Internal: true})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	running := map[string]*Sandbox{}
	for i := range 150 {
		id := fmt.Sprintf("c%063d", i%7)
		switch s := running[id]; {
		case s != nil:
			delete(running, id)
			s.Close()
			if dice.IntN(4) > 0 { // else the daemon died before it heard of the end
				l.ok(l.m.Leave(ctx, id))
			}
			if dice.IntN(3) == 0 {
				l.m.Forget(id)
			}
		default:
			r := JoinRequest{ContainerID: id, Name: fmt.Sprint("n", i%7), Network: []string{"one", "bridge", "two"}[dice.IntN(3)]}
			if r.Network != "two" {
				r.Ports = ports(t, fmt.Sprintf("%d>80", 8000+i%7), fmt.Sprintf("%d>80/udp", 8000+i%7))
			}
			if r.Network == "one" && dice.IntN(2) == 0 {
				r.More = map[string]*network.EndpointSettings{"two": nil}
			}
			s, err := l.m.Join(ctx, r)
			l.ok(err)
			if dice.IntN(5) == 0 { // the daemon died before it wrote down that the container runs
				s.Close()
			} else {
				running[id] = s
			}
		}
		if dice.IntN(12) == 0 {
			l.crash(c, running)
		}
	}
	for id, s := range running {
		l.ok(l.m.Leave(ctx, id))
		s.Close()
	}
	l.crash(c, nil)
	if n := len(l.m.fw.Ports()) + len(l.m.ports.held) + len(l.m.attached); n != 0 {
		t.Errorf("left: rules %v, ports %v, containers %v", l.m.fw.Ports(), l.m.ports.held, l.m.attached)
	}
	l.wantAddresses("one", 0)
	l.wantAddresses("two", 0)
	for _, name := range []string{"one", "two"} {
		l.ok(l.m.Remove(ctx, name))
	}
	l.ok(l.m.Teardown(ctx))
	l.ok(l.m.Close())
	// That no link and no table is left, the lab asserts.
}

// crash replaces the manager, as when a daemon died and another one takes over.
func (l *lab) crash(c Config, running map[string]*Sandbox) {
	l.Helper()
	l.ok(l.m.Close())
	var err error
	l.m, err = Open(context.Background(), c)
	l.ok(err)
	var held []Held
	for id, s := range running {
		held = append(held, Held{ContainerID: id, Name: "n", Networks: s.Networks, Ports: s.Ports})
	}
	l.restore(held...)
	for name := range map[string]bool{"one": true, "two": true} {
		n, err := l.m.Inspect(context.Background(), name)
		l.ok(err)
		if _, err := netlink.LinkByName(l.m.lans[n.ID].link.name); err != nil {
			l.Errorf("network %s: %v", name, err)
		}
	}
}

// The rules of user networks, of both families, are back soon after somebody took them away.
func TestFlushedRulesOfUserNetworksComeBack(t *testing.T) {
	l := newUserLab(t)
	l.address6("up0", "2001:db8::1/64")
	l.in(l.outside, func() { l.address6("out0", "2001:db8::2/64") })
	l.create(network.CreateRequest{Name: "app", EnableIPv6: yes()})
	l.create(network.CreateRequest{Name: "other"})
	a := l.join(JoinRequest{ContainerID: "a", Network: "app", Ports: ports(t, "8080>80")})
	b := l.join(JoinRequest{ContainerID: "b", Network: "other"})
	l.serve(a.NS, ":80", "a")
	l.serve(l.outside, ":7000", "outside")
	l.nft("flush ruleset")
	eventually(t, "the rules do not come back", func() bool {
		ok, err := l.m.fw.Exists()
		return err == nil && ok
	})
	l.wantAnswer(l.outside, "198.51.100.1:8080", "a")
	l.wantAnswer(l.outside, "[2001:db8::1]:8080", "a")
	l.wantAnswer(b.NS, "198.51.100.2:7000", "outside 198.51.100.1")
	l.wantSilence(b.NS, a.Networks["app"].IPAddress.String()+":80")
}

// Firewalls of the host as ufw and firewalld write them: input is closed to all but a few, forwarding to all. What they
// let through is theirs to say; the rules of docs/networks.md do it, for all networks at once.
func TestFirewallsOfOthers(t *testing.T) {
	l := newUserLab(t)
	l.create(network.CreateRequest{Name: "app"})
	s := l.join(JoinRequest{ContainerID: "web", Network: "app", Ports: ports(t, "8080>80", "8081>81")})
	l.serve(s.NS, ":80", "web")
	l.serve(s.NS, ":81", "more")
	l.serve(l.outside, ":7000", "outside")
	t.Run("ufw", func(t *testing.T) {
		// What iptables-nft makes of ufw's chains: policies that drop, and jumps to the user's chains.
		l.nft(`add table ip filter
add chain ip filter INPUT { type filter hook input priority filter; policy drop; }
add chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }
add chain ip filter ufw-before-forward; add chain ip filter ufw-user-forward; add chain ip filter ufw-before-input
add rule ip filter INPUT counter jump ufw-before-input
add rule ip filter ufw-before-input iifname lo counter accept
add rule ip filter ufw-before-input ct state related,established counter accept
add rule ip filter FORWARD counter jump ufw-before-forward
add rule ip filter ufw-before-forward ct state related,established counter accept
add rule ip filter ufw-before-forward counter jump ufw-user-forward`)
		defer l.nft("delete table ip filter")
		l.wantSilence(l.outside, "198.51.100.1:8080")
		l.wantSilence(s.NS, "198.51.100.2:7000")
		l.nft(`add rule ip filter ufw-user-forward iifname "kist*" counter accept`)
		l.wantAnswer(s.NS, "198.51.100.2:7000", "outside")
		l.wantSilence(l.outside, "198.51.100.1:8080")
		l.nft(`add rule ip filter ufw-user-forward oifname "kist*" ip saddr 198.51.100.0/24 meta l4proto tcp ct original proto-dst 8080 counter accept`)
		l.wantAnswer(l.outside, "198.51.100.1:8080", "web")
		l.wantSilence(l.outside, "198.51.100.1:8081")
		l.wantAnswer(nil, "127.0.0.1:8081", "more") // the host's own packets are not forwarded
	})
	t.Run("firewalld", func(t *testing.T) {
		l.nft(`add table inet firewalld
add chain inet firewalld filter_INPUT { type filter hook input priority filter + 10; policy accept; }
add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10; policy accept; }
add chain inet firewalld filter_FORWARD_ZONES
add rule inet firewalld filter_INPUT ct state { established, related } accept
add rule inet firewalld filter_INPUT iifname lo accept
add rule inet firewalld filter_INPUT reject with icmpx admin-prohibited
add rule inet firewalld filter_FORWARD ct state { established, related } accept
add rule inet firewalld filter_FORWARD ct status dnat accept
add rule inet firewalld filter_FORWARD iifname lo accept
add rule inet firewalld filter_FORWARD jump filter_FORWARD_ZONES
add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited`)
		defer l.nft("delete table inet firewalld")
		l.wantAnswer(l.outside, "198.51.100.1:8080", "web") // firewalld lets published ports through
		l.wantSilence(s.NS, "198.51.100.2:7000")
		l.nft(`add rule inet firewalld filter_FORWARD_ZONES iifname "kist*" accept`) // the interface is in the zone trusted
		l.wantAnswer(s.NS, "198.51.100.2:7000", "outside")
	})
}
