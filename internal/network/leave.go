package network

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Leave unpublishes the container's ports and gives its address back. A container that is not known is no error.
func (m *Manager) Leave(ctx context.Context, containerID string) error {
	m.mu.Lock()
	a := m.attached[containerID]
	delete(m.attached, containerID)
	m.mu.Unlock()
	if a == nil || !a.addr.IsValid() {
		return nil
	}
	// The rules go first: a port must not be free while connections to it go to a container.
	err := m.fw.withdraw(targets(a.ports, a.addr.Addr()))
	if hasUDP(a.ports) {
		m.forgetUDP(a.ports, a.addr.Addr())
	}
	m.ports.release(a.ports)
	m.sweep.add(a.endpoint)
	return err
}

// forgetUDP makes the kernel forget what it knows of UDP packets to the ports and from the container: a sender that does
// not pause would otherwise never be looked at again, and its packets would go where the first one went. A container
// works without it, for those who send anew.
func (m *Manager) forgetUDP(list []published, container netip.Addr) {
	f := udpFlows{container: container, ports: map[uint16]bool{}}
	for _, p := range list {
		if p.host.proto == network.UDP {
			f.ports[p.host.port] = true
		}
	}
	for range 3 { // a listing that changed underneath may have missed some
		_, err := m.links.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, f)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			slog.Warn("UDP senders that were there before may not reach the container", "address", container, "error", err)
		}
		return
	}
}

// udpFlows matches connections that the container answers, and untranslated ones to the ports.
type udpFlows struct {
	container netip.Addr
	ports     map[uint16]bool
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
	return f.ports[flow.Forward.DstPort] && !translated
}
