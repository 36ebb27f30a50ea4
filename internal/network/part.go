package network

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// part is a bridge of the kernel's: a network's own, or one joined to it by a veth pair when that one's 1,023 ports are
// taken. The parts form a star, so no packet can go in circles.
type part struct {
	name  string
	index int
	ports int // guarded by bridge.mu
}

const (
	// portsOfFirst leaves some of the kernel's ports for the pairs that lead to further parts.
	portsOfFirst = 1000
	portsOfOther = 1022
)

func (b *bridge) room(i int) int {
	if i == 0 {
		return portsOfFirst
	}
	return portsOfOther
}

// seat reserves a port on a part that has one free, and makes another part if none has.
func (m *Manager) seat(b *bridge) (*part, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, p := range b.parts {
		if p.ports < b.room(i) {
			p.ports++
			return p, nil
		}
	}
	p, err := m.extend(b)
	if err != nil {
		return nil, err
	}
	p.ports++
	b.parts = append(b.parts, p)
	return p, nil
}

// rise gives a port back.
func (b *bridge) rise(p *part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.ports--
}

// full notes that the kernel has no more ports on the part than are in use, others' included.
func (b *bridge) full(p *part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.parts {
		if b.parts[i] == p {
			p.ports = b.room(i)
		}
	}
}

// extend makes another part and joins it to the first.
func (m *Manager) extend(b *bridge) (_ *part, err error) {
	var random [3]byte
	rand.Read(random[:])
	tail, alias := hex.EncodeToString(random[:]), m.c.partAlias(b.name)
	name, inner, outer := m.c.partPrefix()+tail, m.c.Instance+"y"+tail, m.c.Instance+"z"+tail
	defer func() {
		if errors.Is(err, unix.EXFULL) {
			err = &fault.Error{
				Code: "bridge-full", What: "cannot connect the container to the bridge " + b.name,
				Cause: "a Linux bridge has 1023 ports, and all are in use", Class: errdefs.ErrResourceExhausted, Err: err,
			}
		}
		if err != nil {
			_ = m.rt.removeAll([]string{name, inner})
		}
	}()
	link, err := makeBridge(m.links, name, alias, m.c.linkMAC(name))
	if err != nil {
		return nil, err
	}
	p := &part{name: name, index: link.Attrs().Index}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = inner, b.mtu, b.index
	if err := m.links.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: outer}); err != nil {
		return nil, fmt.Errorf("make bridge %s larger: %w", b.name, err)
	}
	far, err := m.links.LinkByName(outer)
	if err == nil {
		err = errors.Join(
			m.links.LinkSetAlias(far, alias), m.links.LinkSetMTU(link, b.mtu), m.links.LinkSetMasterByIndex(far, p.index),
			setAll(switchOnly(name, inner, outer)),
			m.links.LinkSetUp(link), m.links.LinkSetUp(far), m.rt.do(linkUpNamed(inner)),
		)
	}
	if err == nil && b.apart {
		// The far end is not apart: the other part's containers reach the first bridge through it, and there no other port.
		err = m.rt.do(portSettings(inner, false, false, true))
	}
	if err != nil {
		return nil, fmt.Errorf("make bridge %s larger: %w", b.name, err)
	}
	return p, nil
}

// switchOnly keeps the host itself out of a part: it would answer for its addresses there, which are on the first part, and
// have some of its own.
func switchOnly(links ...string) []sysctl {
	var list []sysctl
	for _, l := range links {
		list = append(list, sysctl{"/proc/sys/net/ipv4/conf/" + l + "/arp_ignore", "8"}, sysctl{"/proc/sys/net/ipv6/conf/" + l + "/disable_ipv6", "1"})
	}
	return list
}

// takeOver finds the parts that an earlier daemon has made, and removes those of bridges that are gone.
func (m *Manager) takeOver(links []netlink.Link, bridges map[string]*bridge) error {
	prefix, suffix := "kist part of ", " of "+m.c.Instance
	var stale []string
	for _, l := range links {
		at := l.Attrs()
		of, ok := strings.CutPrefix(at.Alias, prefix)
		of, own := strings.CutSuffix(of, suffix)
		if !ok || !own {
			continue
		}
		b := bridges[of]
		switch {
		case b == nil:
			stale = append(stale, at.Name)
		case l.Type() == "bridge":
			b.parts = append(b.parts, &part{name: at.Name, index: at.Index})
		}
	}
	return m.rt.removeAll(stale)
}

// takeDown removes the bridge with all its parts.
func (m *Manager) takeDown(b *bridge) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for i, p := range b.parts {
		if i > 0 {
			// The pair goes with its far end.
			names = append(names, p.name, m.c.Instance+"z"+strings.TrimPrefix(p.name, m.c.partPrefix()))
		}
	}
	if b.own {
		names = append(names, b.name)
	}
	if err := m.rt.removeAll(names); err != nil {
		return fmt.Errorf("remove bridge %s: %w", b.name, err)
	}
	return nil
}
