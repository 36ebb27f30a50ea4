package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// firewalls looks at everybody's rules: a packet passes only if each table lets it.
func firewalls(_ context.Context, h *host) []Finding {
	c, err := nftables.New()
	if err != nil {
		return []Finding{fail("nftables", err.Error(), "modprobe nf_tables")}
	}
	tables, err := c.ListTables()
	if err != nil {
		return []Finding{fail("nftables", "cannot be read: "+err.Error(), "modprobe nf_tables; sudo kist doctor")}
	}
	var own, others []string
	for _, t := range tables {
		if strings.HasPrefix(t.Name, "kist") {
			own = append(own, t.Name)
		} else {
			others = append(others, familyName(t.Family)+" "+t.Name)
		}
	}
	text := fmt.Sprintf("readable; tables of kist: %s; others: %s", orNone(own), orNone(others))
	list := []Finding{ok("nftables", text)}
	if want := h.tableName(); h.daemon.pid != 0 && !slices.Contains(own, want) && h.Bridge != "none" {
		list = append(list, fail("own table", "the daemon runs, but its table "+want+" is not there", "restart the daemon: kill "+fmt.Sprint(h.daemon.pid)+" && kist ps"))
	}
	list = append(list, h.dropPolicies(c)...)
	if old := line("/proc/net/ip_tables_names"); old != "" {
		list = append(list, warn("iptables-legacy", "rules of the old iptables are in force too, which are not looked at", "iptables-legacy -S FORWARD"))
	}
	return list
}

// dropPolicies finds chains that drop what is forwarded, unless a rule of theirs knows kist's bridges.
func (h *host) dropPolicies(c *nftables.Conn) []Finding {
	chains, err := c.ListChains()
	if err != nil {
		return []Finding{fail("chains", "cannot be read: "+err.Error(), "nft list ruleset")}
	}
	var list []Finding
	for _, ch := range chains {
		if ch.Hooknum == nil || *ch.Hooknum != unix.NF_INET_FORWARD || ch.Policy == nil || *ch.Policy != nftables.ChainPolicyDrop {
			continue
		}
		if ch.Table.Family == nftables.TableFamilyBridge || h.accepted(c, chains, ch) {
			continue
		}
		table := familyName(ch.Table.Family) + " " + ch.Table.Name
		list = append(list, fail("forward policy",
			fmt.Sprintf("the table %q drops forwarded packets by default (chain %s), and no rule of it accepts those of %s: containers reach no network", table, ch.Name, h.bridgeName()),
			fmt.Sprintf("nft insert rule %s %s iifname %q accept && nft insert rule %s %s oifname %q ct state established,related accept", table, ch.Name, h.bridgeName(), table, ch.Name, h.bridgeName())))
	}
	if len(list) == 0 {
		list = append(list, ok("forward policy", "no table drops what containers send"))
	}
	return list
}

// accepted says whether a rule of the chain, or of one that it jumps to, is about kist's bridges.
func (h *host) accepted(c *nftables.Conn, all []*nftables.Chain, from *nftables.Chain) bool {
	todo, seen := []*nftables.Chain{from}, map[string]bool{}
	for len(todo) > 0 {
		ch := todo[0]
		todo = todo[1:]
		if seen[ch.Name] {
			continue
		}
		seen[ch.Name] = true
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return false
		}
		for _, r := range rules {
			about, jump := h.reads(r)
			if about {
				return true
			}
			for _, other := range all {
				if jump != "" && other.Name == jump && other.Table.Name == ch.Table.Name && other.Table.Family == ch.Table.Family {
					todo = append(todo, other)
				}
			}
		}
	}
	return false
}

// reads says whether a rule accepts by the name of kist's bridges, and where it jumps to.
func (h *host) reads(r *nftables.Rule) (about bool, jump string) {
	names, accepts, plain := false, false, true
	for _, e := range r.Exprs {
		switch x := e.(type) {
		case *expr.Cmp:
			plain = false
			name := strings.TrimRight(string(x.Data), "\x00")
			names = names || x.Op == expr.CmpOpEq && name != "" && strings.HasPrefix(h.bridgeName(), name)
		case *expr.Lookup, *expr.Bitwise, *expr.Ct, *expr.Payload:
			plain = false
		case *expr.Verdict:
			accepts = x.Kind == expr.VerdictAccept
			if x.Kind == expr.VerdictJump || x.Kind == expr.VerdictGoto {
				jump = x.Chain
			}
		}
	}
	return accepts && (names || plain), jump
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyARP:
		return "arp"
	case nftables.TableFamilyNetdev:
		return "netdev"
	}
	return fmt.Sprint("family ", byte(f))
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// forwarding looks at what lets packets through.
func forwarding(_ context.Context, h *host) []Finding {
	var list []Finding
	switch on := line("/proc/sys/net/ipv4/ip_forward") == "1"; {
	case on:
		list = append(list, ok("ip_forward", "on"))
	case h.daemon.pid == 0 || h.Bridge == "none":
		list = append(list, ok("ip_forward", "off; the daemon switches it on when it starts"))
	default:
		list = append(list, fail("ip_forward", "net.ipv4.ip_forward is 0: containers reach nothing beyond this host, and published ports answer only locally",
			"sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for who switches it off"))
	}
	if line("/proc/sys/net/bridge/bridge-nf-call-iptables") == "1" {
		list = append(list, ok("bridge-nf", "bridged packets go through the firewall too (br_netfilter); kist's rules allow for that"))
	}
	return list
}

// resolvers asks each name server of the host.
func resolvers(ctx context.Context, _ *host) []Finding {
	const file = "/etc/resolv.conf"
	raw, err := os.ReadFile(file)
	if err != nil {
		return []Finding{fail("resolv.conf", err.Error(), "put a line \"nameserver ADDRESS\" into "+file)}
	}
	servers := nameServers(string(raw))
	if len(servers) == 0 {
		return []Finding{fail("resolv.conf", file+" names no name server: neither kist nor containers find any host", "put a line \"nameserver ADDRESS\" into "+file)}
	}
	answers := make([]error, len(servers))
	var g sync.WaitGroup
	for i, s := range servers {
		g.Go(func() { answers[i] = ask(ctx, s) })
	}
	g.Wait()
	var list []Finding
	answered := false
	for i, s := range servers {
		if answers[i] != nil {
			list = append(list, warn(s.String(), "the name server does not answer: "+answers[i].Error(), "check the network, and "+file))
			continue
		}
		answered = true
		text := "answers"
		if s.IsLoopback() {
			text += "; it is on this host's loopback, where containers cannot reach it: kist's own name server asks it for them"
		}
		list = append(list, ok(s.String(), text))
	}
	if !answered && hasDefaultRoute() {
		for i := range list {
			list[i].State = Fail
		}
	}
	return list
}

// nameServers reads resolv.conf(5).
func nameServers(text string) []netip.Addr {
	var list []netip.Addr
	for l := range strings.Lines(text) {
		f := strings.Fields(l)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			list = append(list, a)
		}
	}
	return list
}

// Times for a name server: how long it may take, and how often it is asked.
const (
	dnsTime  = time.Second
	dnsTries = 2
)

// ask asks for the name servers of the root; any answer is one.
func ask(ctx context.Context, server netip.Addr) error {
	root := dnsmessage.MustNewName(".")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(os.Getpid()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: root, Type: dnsmessage.TypeNS, Class: dnsmessage.ClassINET}},
	}
	query, err := m.Pack()
	if err != nil {
		return err
	}
	for range dnsTries {
		if err = askOnce(ctx, server, query); err == nil {
			return nil
		}
	}
	return err
}

func askOnce(ctx context.Context, server netip.Addr, query []byte) error {
	d := net.Dialer{Timeout: dnsTime}
	conn, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(server, 53).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dnsTime)); err != nil {
		return err
	}
	if _, err := conn.Write(query); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	var head dnsmessage.Parser
	h, err := head.Start(answer[:n])
	if err != nil || !h.Response || h.ID != uint16(os.Getpid()) {
		return errors.New("what it answers is no DNS")
	}
	return nil
}

// hasDefaultRoute says whether this host is meant to reach others.
func hasDefaultRoute() bool {
	b, err := os.ReadFile("/proc/thread-self/net/route")
	if err != nil {
		return false
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return true
		}
	}
	return false
}

// tableName and bridgeName are the daemon's names on this host.
func (h *host) tableName() string { return "kist-" + h.Instance }

func (h *host) bridgeName() string {
	if h.Bridge != "" && h.Bridge != "none" {
		return h.Bridge
	}
	if i, err := net.InterfaceByName("kist-" + h.Instance); err == nil {
		return i.Name
	}
	return "kist0"
}
