package firewall

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// chains renders the rules. They change only with the bridges: ports are elements of the maps.
func (t *Table) chains() []chain {
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
		{
			"input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter,
			loopback6(),
		},
		{name: "published", rules: translations()},
	}
}

// martians drops what claims to be the host's loopback but comes from elsewhere. The kernel does so by itself, except on
// the bridges, where route_localnet is on so that 127.0.0.1 reaches published ports, and except before the address of a
// published port is translated.
//
// Where bridged packets go through the firewall (br_netfilter), what crosses two parts of a bridge is looked at on the part
// that has the addresses, and there only.
func (t *Table) martians() []rule {
	var rules []rule
	if t.Parts != "" {
		rules = append(rules, newRule(`iifname "`+t.Parts+`*" notrack`, iifPrefix(t.Parts), notrack()))
	}
	rules = append(
		rules,
		newRule(`iifname != "lo" ip daddr 127.0.0.0/8 drop`,
			iifName(expr.CmpOpNeq, "lo"), ip4(), daddr(), within(loopback), verdict(expr.VerdictDrop)),
	)
	for _, b := range t.Bridges {
		rules = append(rules, newRule(`iifname "`+b.Name+`" ip saddr 127.0.0.0/8 drop`,
			iifName(expr.CmpOpEq, b.Name), ip4(), saddr(), within(loopback), verdict(expr.VerdictDrop)))
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
	// The kernel does not route what comes from ::1 anywhere: input refuses it.
	rules := []rule{newRule("ip6 daddr ::1 return",
		ip6(), daddr6(), is(netip.IPv6Loopback()), verdict(expr.VerdictReturn))}
	for _, m := range portMaps {
		text, family, addr := "dnat ip to ", ip4(), "ip daddr . "
		if m.v6 {
			text, family, addr = "dnat ip6 to ", ip6(), "ip6 daddr . "
		}
		if !m.one {
			addr = ""
		}
		rules = append(rules, newRule(text+addr+"meta l4proto . th dport map @"+m.name,
			family, m.load(), m.lookup(), m.dnat()))
	}
	return rules
}

// loopback6 refuses connections to a published port of ::1 at once, so that who tries localhost goes on to 127.0.0.1: the
// socket that reserves the port would let them wait.
func loopback6() []rule {
	var rules []rule
	for _, m := range portMaps {
		if m.v6 && !m.one {
			rules = append(rules, newRule("ip6 daddr ::1 ct state new meta l4proto tcp meta l4proto . th dport @"+m.name+" reject with tcp reset",
				ip6(), daddr6(), is(netip.IPv6Loopback()), ctNew(), tcp(), m.load(), m.lookup(), reset()))
		}
	}
	return rules
}

// postrouting gives the host's address to what leaves, and to what the host's loopback or a container sends to a
// published port: the answer would otherwise not come back this way.
func (t *Table) postrouting() []rule {
	var rules []rule
	for _, b := range t.Bridges {
		for _, s := range b.Subnets {
			family, addr, word := ip4(), saddr(), "ip"
			if s.Addr().Is6() {
				family, addr, word = ip6(), saddr6(), "ip6"
			}
			if b.Masquerade && !b.Internal {
				rules = append(rules, newRule(word+" saddr "+s.String()+` oifname != "`+b.Name+`" masquerade`,
					family, addr, within(s), oifName(expr.CmpOpNeq, b.Name), masquerade()))
			}
			rules = append(rules, newRule(word+" saddr "+s.String()+` oifname "`+b.Name+`" ct status dnat masquerade`,
				family, addr, within(s), oifName(expr.CmpOpEq, b.Name), ctDNAT(), masquerade()))
		}
		rules = append(rules, newRule(`ip saddr 127.0.0.0/8 oifname "`+b.Name+`" masquerade`,
			ip4(), saddr(), within(loopback), oifName(expr.CmpOpEq, b.Name), masquerade()))
	}
	return rules
}

// forward lets into a bridge only what answers, what comes from the same bridge and what was sent to a published port;
// out of an internal one, nothing. What the rules accept other tables may still drop: the host's own firewall has the last
// word.
func (t *Table) forward() []rule {
	var rules []rule
	for _, b := range t.Bridges {
		if b.Internal {
			rules = append(rules, newRule(`iifname "`+b.Name+`" oifname != "`+b.Name+`" drop`,
				iifName(expr.CmpOpEq, b.Name), oifName(expr.CmpOpNeq, b.Name), verdict(expr.VerdictDrop)))
		}
	}
	for _, b := range t.Bridges {
		rules = append(rules, b.into()...)
	}
	return rules
}

func (b *Bridge) into() []rule {
	to := oifName(expr.CmpOpEq, b.Name)
	text := `oifname "` + b.Name + `" `
	same := newRule(text+`iifname "`+b.Name+`" accept`, to, iifName(expr.CmpOpEq, b.Name), verdict(expr.VerdictAccept))
	dnatted := newRule(text+"ct status dnat accept", to, ctDNAT(), verdict(expr.VerdictAccept))
	drop := newRule(text+"drop", to, verdict(expr.VerdictDrop))
	rules := []rule{newRule(text+"ct state established,related accept", to, ctEstablished(), verdict(expr.VerdictAccept))}
	switch {
	case b.Internal && b.Apart:
		return append(rules, drop)
	case b.Internal:
		return append(rules, same, drop)
	case b.Apart && b.Open:
		apart := newRule(text+`iifname "`+b.Name+`" drop`, to, iifName(expr.CmpOpEq, b.Name), verdict(expr.VerdictDrop))
		return append(rules, dnatted, apart, newRule(text+"accept", to, verdict(expr.VerdictAccept)))
	case b.Apart:
		return append(rules, dnatted, drop)
	case b.Open:
		return append(rules, newRule(text+"accept", to, verdict(expr.VerdictAccept)))
	}
	return append(rules, same, dnatted, drop)
}
