package network

import (
	"os/exec"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
)

func TestDbg(t *testing.T) {
	l := newUserLab(t)
	id := l.create(network.CreateRequest{Name: "many"})
	b := l.m.lans[id].link
	b.parts[0].ports = portsOfFirst
	far := l.join(JoinRequest{ContainerID: "far", Network: "many", Ports: ports(t, "8081>80")})
	l.serve(l.outside, ":7000", "outside")
	l.nft("add table inet dbg; add chain inet dbg t { type filter hook prerouting priority -400; }; add rule inet dbg t tcp dport 7000 meta nftrace set 1; add rule inet dbg t tcp sport 7000 meta nftrace set 1")
	cmd := exec.Command("timeout", "3", "nft", "monitor", "trace")
	go func() { o, _ := cmd.CombinedOutput(); t.Logf("%s", o) }()
	time.Sleep(300 * time.Millisecond)
	t.Log(l.fetch(far.NS, "198.51.100.2:7000", 2*time.Second))
	time.Sleep(2 * time.Second)
	l.nft("delete table inet dbg")
}
