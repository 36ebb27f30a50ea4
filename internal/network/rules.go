package network

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/moby/moby/api/types/network"
)

// table is the state of the firewall as a value. Everything in the kernel is made from it, and nothing is read back.
type table struct {
	name    string
	bridges []bridgeRules
	ports   map[hostPort]target
}

// bridgeRules is a bridge with the subnet behind it.
type bridgeRules struct {
	name   string
	subnet netip.Prefix
}

// hostPort is a port of the host: of one address, or of all if addr is the unspecified one.
type hostPort struct {
	addr  netip.Addr
	proto network.IPProtocol
	port  uint16
}

// target is where connections to a hostPort go.
type target struct {
	addr netip.Addr
	port uint16
}

// chain is a chain of the table; without a hook it is one that others jump to.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    []rule
}

// rule is what the kernel is told, with the same in nft's words, for people.
type rule struct {
	text  string
	exprs []expr.Any
}

// The maps of published ports. One of all addresses is looked for after one of the packet's own.
const (
	mapEvery = "ports"
	mapOne   = "ports_of_address"
)

// chains renders the rules. They never change while bridges stay: ports are elements of the maps.
func (t *table) chains() []chain {
	return []chain{
		{
			"martians", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw,
			t.martians(),
		},
		{
			"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest,
			[]rule{toPublished()},
		},
		{
			"output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest,
			[]rule{toPublished()},
		},
		{
			"postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource,
			t.postrouting(),
		},
		{
			"forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter,
			t.forward(),
		},
		{name: "published", rules: translations()},
	}
}

// martians drops what claims to be the host's loopback but comes from elsewhere. The kernel does so by itself, except on
// the bridges, where route_localnet is on so that 127.0.0.1 reaches published ports, and except before the address of a
// published port is translated.
func (t *table) martians() []rule {
	rules := []rule{
		newRule(`iifname != "lo" ip daddr 127.0.0.0/8 drop`,
			iifName(expr.CmpOpNeq, "lo"), ip4(), daddr(), within(loopback), verdict(expr.VerdictDrop)),
	}
	for _, b := range t.bridges {
		rules = append(rules, newRule(`iifname "`+b.name+`" ip saddr 127.0.0.0/8 drop`,
			iifName(expr.CmpOpEq, b.name), ip4(), saddr(), within(loopback), verdict(expr.VerdictDrop)))
	}
	return rules
}

// toPublished looks only at packets for the host's own addresses: a container may reach port 80 elsewhere though the
// host publishes one.
func toPublished() rule {
	return newRule("fib daddr type local jump published",
		daddrIsLocal(), verdictTo("published"))
}

func translations() []rule {
	return []rule{
		newRule("dnat ip to ip daddr . meta l4proto . th dport map @"+mapOne,
			ip4(), keyWithAddress(), lookup(mapOne), dnat()),
		newRule("dnat ip to meta l4proto . th dport map @"+mapEvery,
			ip4(), keyWithoutAddress(), lookup(mapEvery), dnat()),
	}
}

// postrouting gives the host's address to what leaves, and to what the host's loopback or a container sends to a
// published port: the answer would otherwise not come back this way.
func (t *table) postrouting() []rule {
	var rules []rule
	for _, b := range t.bridges {
		rules = append(
			rules,
			newRule("ip saddr "+b.subnet.String()+` oifname != "`+b.name+`" masquerade`,
				ip4(), saddr(), within(b.subnet), oifName(expr.CmpOpNeq, b.name), masquerade()),
			newRule("ip saddr "+b.subnet.String()+` oifname "`+b.name+`" ct status dnat masquerade`,
				ip4(), saddr(), within(b.subnet), oifName(expr.CmpOpEq, b.name), ctDNAT(), masquerade()),
			newRule(`ip saddr 127.0.0.0/8 oifname "`+b.name+`" masquerade`,
				ip4(), saddr(), within(loopback), oifName(expr.CmpOpEq, b.name), masquerade()),
		)
	}
	return rules
}

// forward lets into a bridge only what answers, what comes from the same bridge and what was sent to a published port.
// What the rules accept other tables may still drop: the host's own firewall has the last word.
func (t *table) forward() []rule {
	var rules []rule
	for _, b := range t.bridges {
		rules = append(
			rules,
			newRule(`oifname "`+b.name+`" ct state established,related accept`,
				oifName(expr.CmpOpEq, b.name), ctEstablished(), verdict(expr.VerdictAccept)),
			newRule(`oifname "`+b.name+`" iifname "`+b.name+`" accept`,
				oifName(expr.CmpOpEq, b.name), iifName(expr.CmpOpEq, b.name), verdict(expr.VerdictAccept)),
			newRule(`oifname "`+b.name+`" ct status dnat accept`,
				oifName(expr.CmpOpEq, b.name), ctDNAT(), verdict(expr.VerdictAccept)),
			newRule(`oifname "`+b.name+`" drop`,
				oifName(expr.CmpOpEq, b.name), verdict(expr.VerdictDrop)),
		)
	}
	return rules
}

// split sorts the ports into the two maps, in a stable order.
func split(ports map[hostPort]target) (every, one []nftables.SetElement) {
	keys := make([]hostPort, 0, len(ports))
	for k := range ports {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareHostPorts)
	for _, k := range keys {
		e := nftables.SetElement{Key: k.key(), Val: ports[k].value()}
		if k.addr.IsUnspecified() {
			every = append(every, e)
		} else {
			one = append(one, e)
		}
	}
	return every, one
}
