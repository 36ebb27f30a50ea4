package network

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/network/firewall"
)

// Leave unpublishes the container's ports and gives its addresses back; those on users' networks are kept for its return
// for a while. A container that is not known is no error.
func (m *Manager) Leave(ctx context.Context, containerID string) error {
	m.mu.Lock()
	a := m.attached[containerID]
	delete(m.attached, containerID)
	if a == nil {
		m.mu.Unlock()
		return nil
	}
	for _, e := range a.ends {
		if delete(e.lan.ends, containerID); !e.lan.predefined {
			e.lan.keep(containerID, e)
		}
	}
	m.mu.Unlock()
	m.unname(a)
	err := m.unpublish(a, a.ports)
	for _, e := range a.ends {
		m.letGo(e)
	}
	return err
}

// unpublish withdraws ports. The rules go first: a port must not be free while connections to it go to a container.
func (m *Manager) unpublish(a *attachment, list []published) error {
	if len(list) == 0 {
		return nil
	}
	err := m.fw.Withdraw(a.targets(list))
	m.forgetUDP(a, list)
	m.ports.release(list)
	return err
}

// forgetUDP makes the kernel forget what it knows of UDP packets to the ports and from the container: a sender that does
// not pause would otherwise never be looked at again, and its packets would go where the first one went. A container
// works without it, for those who send anew.
func (m *Manager) forgetUDP(a *attachment, list []published) {
	for _, six := range []bool{false, true} {
		f := udpFlows{container: a.reached(six)}
		for _, p := range list {
			if p.host.Proto == network.UDP && p.host.Addr.Is6() == six {
				f.ports = append(f.ports, p.host)
			}
		}
		if len(f.ports) > 0 && f.container.IsValid() {
			m.forgetFlows(f, six)
		}
	}
}

func (m *Manager) forgetFlows(f udpFlows, six bool) {
	family := netlink.InetFamily(unix.AF_INET)
	if six {
		family = unix.AF_INET6
	}
	for range 3 { // a listing that changed underneath may have missed some
		_, err := m.links.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			slog.Warn("UDP senders that were there before may not reach the container", "address", f.container, "error", err)
		}
		return
	}
}

// udpFlows matches connections that the container answers, and untranslated ones to the ports.
type udpFlows struct {
	container netip.Addr
	ports     []firewall.Ports
}

// MatchConntrackFlow is called by netlink for each connection.
func (f udpFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	if flow.Reverse.SrcIP.Equal(f.container.AsSlice()) {
		return true
	}
	translated := !flow.Reverse.SrcIP.Equal(flow.Forward.DstIP)
	return !translated && slices.ContainsFunc(f.ports, func(p firewall.Ports) bool {
		return p.From <= flow.Forward.DstPort && flow.Forward.DstPort <= p.To
	})
}
