package firewall

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables/expr"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/testbed/suite"
)

var every, every6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()

func sampleTable() Table {
	web, dns, six := netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("172.17.0.3"), netip.MustParseAddr("fd00:1::2")
	prefixes := func(list ...string) (all []netip.Prefix) {
		for _, p := range list {
			all = append(all, netip.MustParsePrefix(p))
		}
		return all
	}
	return Table{
		Name: "kist", Parts: "kistx",
		Bridges: []Bridge{
			{Name: "kist0", Subnets: prefixes("172.17.0.0/20"), Masquerade: true},
			{Name: "kist-both", Subnets: prefixes("10.1.0.0/16", "fd00:1::/64"), Masquerade: true, Apart: true},
			{Name: "kist-in", Subnets: prefixes("10.2.0.0/16"), Masquerade: true, Internal: true},
			{Name: "kist-open", Subnets: prefixes("10.3.0.0/16"), Open: true},
		},
		Ports: map[Ports]Target{
			One(every, network.TCP, 8080):                                  {web, 80},
			One(every, network.UDP, 53):                                    {dns, 53},
			One(netip.MustParseAddr("127.0.0.1"), network.TCP, 8081):       {web, 80},
			One(netip.MustParseAddr("198.51.100.1"), network.SCTP, 9000):   {dns, 90},
			{every, network.TCP, 20000, 29999}:                             {web, 20000},
			{netip.MustParseAddr("198.51.100.1"), network.UDP, 5000, 5999}: {dns, 5000},
			{every, network.TCP, 7000, 7002}:                               {web, 8000},
			One(every6, network.TCP, 8080):                                 {six, 80},
			One(netip.MustParseAddr("fd00::1"), network.UDP, 53):           {six, 53},
			{every6, network.TCP, 20000, 29999}:                            {six, 20000},
			{netip.MustParseAddr("fd00::1"), network.TCP, 40000, 40999}:    {six, 40000},
		},
	}
}

// render writes a table's rules as they go to the kernel, under what they mean.
func (t *Table) render() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "table inet %s\n", t.Name)
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
	for _, m := range portMaps {
		for _, e := range m.elements(t.Ports) {
			fmt.Fprintf(&b, "\nelement of %s: % x", m.name, e.Key)
			if e.KeyEnd != nil {
				fmt.Fprintf(&b, " - % x", e.KeyEnd)
			}
			fmt.Fprintf(&b, " > % x", e.Val)
		}
	}
	fmt.Fprintln(&b)
	return b.Bytes()
}

func describe(e expr.Any) string {
	return strings.TrimPrefix(fmt.Sprintf("%T %+v", e, e), "*expr.")
}

func TestRules(t *testing.T) {
	table := sampleTable()
	suite.Golden(t, "rules.golden", string(table.render()))
}

// What the kernel has, as nft reads it, is what the rules' own words say.
func TestRulesInTheKernel(t *testing.T) {
	suite.NeedNetwork(t)
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("no nft program")
	}
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	table := sampleTable()
	f, err := Open(host, table)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 { // the second time over itself
		if err := f.Renew(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := f.Remove(); err != nil {
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
			if strings.HasSuffix(r.text, "reject with tcp reset") {
				continue // nft does not print a lookup whose value nobody uses
			}
			if !strings.Contains(listing, inNumbers(r.text)) {
				t.Errorf("nft does not list %q", inNumbers(r.text))
			}
		}
	}
	for _, e := range []string{
		"6 . 8080 : 172.17.0.2 . 80", "17 . 53 : 172.17.0.3 . 53", "127.0.0.1 . 6 . 8081 : 172.17.0.2 . 80", "198.51.100.1 . 132 . 9000 : 172.17.0.3 . 90",
		"6 . 20000-29999 : 172.17.0.2", "198.51.100.1 . 17 . 5000-5999 : 172.17.0.3", "6 . 8080 : fd00:1::2 . 80", "6 . 20000-29999 : fd00:1::2", "6 . 7002 : 172.17.0.2 . 8002",
	} {
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
	suite.NeedNetwork(t)
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	f, err := Open(host, Table{Name: "many"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Renew(); err != nil {
		t.Fatal(err)
	}
	defer f.Remove()
	many := map[Ports]Target{}
	for n := range uint16(10000) {
		many[One(every, network.TCP, 20000+n)] = Target{netip.MustParseAddr("172.17.0.2"), n}
	}
	for range 2 {
		start := time.Now()
		if err := f.Publish(many); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d single ports in %v", len(many), time.Since(start))
		if err := f.Renew(); err != nil {
			t.Fatal(err)
		}
		if err := f.Withdraw(many); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.table.Ports) != 0 {
		t.Errorf("%d ports are left", len(f.table.Ports))
	}
}

// The kernel answers each rule of a transaction with a copy of it, before the first answer is read.
func TestHundredsOfNetworks(t *testing.T) {
	suite.NeedNetwork(t)
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	f, err := Open(host, Table{Name: "nets"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer f.Remove()
	var bridges []Bridge
	for n := range byte(250) {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, n, 0, 0}), 24)
		bridges = append(bridges, Bridge{Name: fmt.Sprintf("br%d", n), Subnets: []netip.Prefix{subnet}, Masquerade: true})
		if n%50 != 49 {
			continue
		}
		if err := f.SetBridges(bridges); err != nil {
			t.Fatalf("%d networks: %v", len(bridges), err)
		}
	}
}
