package network

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Warnings says what on this host may keep containers from the network. A packet passes only if every table accepts it,
// so a chain of somebody else's that drops by default (docker's iptables rules, ufw, a firewall written by hand) needs
// rules of its own, which docs/networks.md tells. Rules of the old iptables-legacy are not seen, nor chains that end in a
// rule that drops.
func (m *Manager) Warnings() []string {
	if m.links == nil {
		return nil
	}
	chains, err := m.fw.Chains()
	if err != nil {
		return []string{"the host's firewall rules could not be read: " + err.Error()}
	}
	var w []string
	for _, c := range chains {
		if c.Hooknum == nil || *c.Hooknum != unix.NF_INET_FORWARD || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		w = append(w, fmt.Sprintf("the firewall table %q drops forwarded packets by default (chain %q): containers reach the network only if it accepts those of %s",
			c.Table.Name, c.Name, m.linkNames()))
	}
	return w
}

// linkNames are the bridges, as a firewall is told of them.
func (m *Manager) linkNames() string {
	var names []string
	for _, b := range m.bridges() {
		names = append(names, b.Name)
	}
	return strings.Join(names, ", ")
}
