package network

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Linux bridge has 1,023 ports. Interfaces of no containers take those of the first; containers that come then are put on
// further bridges, reach everybody, and leave nothing.
func TestMoreThanABridgeHolds(t *testing.T) {
	for name, icc := range map[string]string{"together": "true", "apart": "false"} {
		t.Run(name, func(t *testing.T) {
			l := newUserLab(t)
			id := l.create(network.CreateRequest{Name: "many", Options: map[string]string{optICC: icc}})
			first := l.join(JoinRequest{ContainerID: "first", Network: "many", Ports: ports(t, "8080>80")})
			l.serve(first.NS, ":80", "first")
			b := l.m.lans[id].link
			b.mu.Lock()
			b.parts[0].ports = portsOfFirst - 1 // as if so many containers were there
			b.mu.Unlock()
			near := l.join(JoinRequest{ContainerID: "near", Network: "many"})
			far := l.join(JoinRequest{ContainerID: "far", Network: "many", Ports: ports(t, "8081>80")})
			b.mu.Lock()
			b.parts[1].ports = portsOfOther
			b.mu.Unlock()
			third := l.join(JoinRequest{ContainerID: "third", Network: "many"})
			if len(b.parts) != 3 || l.link(l.m.c.vethName(third.Networks["many"].EndpointID)).Attrs().MasterIndex != b.parts[2].index {
				t.Fatalf("parts %+v", b.parts)
			}
			l.serve(far.NS, ":80", "far")
			l.serve(l.outside, ":7000", "outside")
			addr := func(s *Sandbox) string { return s.Networks["many"].IPAddress.String() + ":80" }
			for _, s := range []*Sandbox{first, near, far, third} {
				l.wantAnswer(s.NS, "198.51.100.2:7000", "outside")
				if icc == "true" {
					l.wantAnswer(s.NS, addr(first), "first")
					l.wantAnswer(s.NS, addr(far), "far")
				}
			}
			if icc == "false" {
				l.wantSilence(near.NS, addr(first))
				l.wantSilence(near.NS, addr(far))
				l.wantSilence(third.NS, addr(far))
				l.wantSilence(far.NS, addr(first))
			}
			l.wantAnswer(l.outside, "198.51.100.1:8080", "first")
			l.wantAnswer(l.outside, "198.51.100.1:8081", "far")
			for _, id := range []string{"first", "near", "far", "third"} {
				l.ok(l.m.Leave(context.Background(), id))
			}
			l.ok(l.m.Remove(context.Background(), "many"))
		})
	}
}

// The kernel says that a bridge is full when it is, and the next one is taken.
func TestBridgeThatIsFull(t *testing.T) {
	if testing.Short() {
		t.Skip("skip: a thousand interfaces take seconds")
	}
	l := newUserLab(t)
	id := l.create(network.CreateRequest{Name: "many"})
	b := l.m.lans[id].link
	l.in(nil, func() {})
	// Peers go along with their pairs; the pairs go with the namespace that they are taken to.
	start := time.Now()
	var names []string
	for i := range 1022 {
		name := fmt.Sprintf("fill%d", i)
		m := newMessage("create "+name, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL).link(0, 0, 0)
		m.text(unix.IFLA_IFNAME, name).u32(unix.IFLA_MASTER, uint32(b.index)).nest(unix.IFLA_LINKINFO).text(unix.IFLA_INFO_KIND, "veth").end()
		l.ok(l.m.rt.do(m))
		names = append(names, name)
	}
	t.Logf("%d ports in %v", len(names), time.Since(start))
	defer func() { l.ok(l.m.rt.removeAll(names)) }()
	if _, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "a", Network: "many"}); err != nil {
		t.Fatal(err) // the last port of the first bridge
	}
	_, err := l.m.Join(context.Background(), JoinRequest{ContainerID: "b", Network: "many"})
	if err == nil || !strings.Contains(err.Error(), "1023") {
		t.Errorf("a bridge that others have filled has no port left for a further one: %v", err)
	}
	l.ok(l.m.Leave(context.Background(), "a"))
	l.ok(netlink.LinkDel(l.link("fill0")))
}
