package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables/expr"
	"github.com/moby/moby/api/types/network"
)

func sampleTable() table {
	web, dns := netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("172.17.0.3")
	return table{
		name:    "kist",
		bridges: []bridgeRules{{"kist0", netip.MustParsePrefix("172.17.0.0/20")}, {"kist-other", netip.MustParsePrefix("10.1.0.0/16")}},
		ports: map[hostPort]target{
			{every, network.TCP, 8080}:                                {web, 80},
			{every, network.UDP, 53}:                                  {dns, 53},
			{netip.MustParseAddr("127.0.0.1"), network.TCP, 8081}:     {web, 80},
			{netip.MustParseAddr("198.51.100.1"), network.SCTP, 9000}: {dns, 90},
		},
	}
}

// render writes a table's rules as they go to the kernel, under what they mean.
func (t *table) render() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "table inet %s\n", t.name)
	for _, c := range t.chains() {
		fmt.Fprintf(&b, "\nchain %s", c.name)
		if c.hook != nil {
			fmt.Fprintf(&b, ": %s, hook %d, priority %d", c.kind, *c.hook, *c.priority)
		}
		fmt.Fprintln(&b)
		for _, r := range c.rules {
			fmt.Fprintf(&b, "\t%s\n", r.text)
			for _, e := range r.exprs {
				fmt.Fprintf(&b, "\t\t%s\n", describe(e))
			}
		}
	}
	all, one := split(t.ports)
	for _, e := range all {
		fmt.Fprintf(&b, "\nelement of %s: % x > % x", mapEvery, e.Key, e.Val)
	}
	for _, e := range one {
		fmt.Fprintf(&b, "\nelement of %s: % x > % x", mapOne, e.Key, e.Val)
	}
	fmt.Fprintln(&b)
	return b.Bytes()
}

func describe(e expr.Any) string {
	return strings.TrimPrefix(fmt.Sprintf("%T %+v", e, e), "*expr.")
}

func TestRules(t *testing.T) {
	table := sampleTable()
	golden(t, "rules.golden", table.render())
}

// What the kernel has, as nft reads it, is what the rules' own words say.
func TestRulesInTheKernel(t *testing.T) {
	needRoot(t)
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("no nft program")
	}
	host, err := currentNS()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	table := sampleTable()
	f, err := openFirewall(host, table)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for range 2 { // the second time over itself
		if err := f.renew(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	}()
	out, err := exec.Command(nft, "-n", "list", "table", "inet", "kist").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	listing := string(out)
	for _, c := range table.chains() {
		for _, r := range c.rules {
			if !strings.Contains(listing, inNumbers(r.text)) {
				t.Errorf("nft does not list %q", inNumbers(r.text))
			}
		}
	}
	for _, e := range []string{"6 . 8080 : 172.17.0.2 . 80", "17 . 53 : 172.17.0.3 . 53", "127.0.0.1 . 6 . 8081 : 172.17.0.2 . 80", "198.51.100.1 . 132 . 9000 : 172.17.0.3 . 90"} {
		if !strings.Contains(listing, e) {
			t.Errorf("nft does not list the element %q", e)
		}
	}
	if t.Failed() {
		t.Log(listing)
	}
}

// inNumbers is how nft -n writes some of the words.
func inNumbers(s string) string {
	return strings.NewReplacer("ct state established,related", "ct state 0x2,0x4", "ct status dnat", "ct status 0x20", "type local", "type 2").Replace(s)
}

func TestThousandsOfPorts(t *testing.T) {
	needRoot(t)
	host, err := currentNS()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	f, err := openFirewall(host, table{name: "many"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if err := f.renew(); err != nil {
		t.Fatal(err)
	}
	defer f.remove()
	many := map[hostPort]target{}
	for n := range uint16(10000) {
		many[hostPort{every, network.TCP, 20000 + n}] = target{netip.MustParseAddr("172.17.0.2"), n}
	}
	for range 2 {
		start := time.Now()
		if err := f.publish(many); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d ports in %v", len(many), time.Since(start))
		if err := f.renew(); err != nil {
			t.Fatal(err)
		}
		if err := f.withdraw(many); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.table.ports) != 0 {
		t.Errorf("%d ports are left", len(f.table.ports))
	}
}
