package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ttl of a container's address, in seconds: those that remember it ask again soon, in case it comes back with another one.
const ttl = 5

// answer is what the zone says to a question.
type answer struct {
	known  bool // the name exists; the zone's word is final
	denied bool // the name does not exist, whatever others say
	addrs  []netip.Addr
	name   string // for PTR
}

// look answers a container's question from the zone. The addresses are appended to room.
func (z *zone) look(container string, q *query, room []netip.Addr) answer {
	if q.odd || q.textLen == 0 {
		return answer{}
	}
	name := q.name()
	if a, reverse := reverseName(name); reverse {
		return z.reverse(container, a)
	}
	if local, ok := loopbackName(name); ok {
		return answer{known: local, denied: !local, addrs: append(room, loopback4, loopback6)}
	}
	z.mu.RLock()
	defer z.mu.RUnlock()
	o := z.containers[container]
	if o == nil {
		return answer{}
	}
	if isHostName(name) {
		room = o.host(room)
		return answer{known: len(room) > 0, denied: len(room) == 0, addrs: room}
	}
	for _, p := range o.places {
		if list := p.find(name); len(list) > 0 {
			return answer{known: true, addrs: z.addresses(list, room)}
		}
	}
	return answer{}
}

// find returns who has the name, plain or in the network's domain, for the container at p.
func (p *place) find(name []byte) []*place {
	if other, ok := p.Links[string(name)]; ok {
		if list := p.seg.names[other]; len(list) > 0 {
			return list
		}
	}
	if list := p.seg.names[string(name)]; len(list) > 0 {
		return list
	}
	domain := p.seg.domain
	cut := len(name) - len(domain) - 1
	if cut <= 0 || name[cut] != '.' || string(name[cut+1:]) != domain {
		return nil
	}
	return p.seg.names[string(name[:cut])]
}

// addresses are those of the places that are there, of those that have ended only if none is; with each question another
// one comes first.
func (z *zone) addresses(list []*place, room []netip.Addr) []netip.Addr {
	there := slices.ContainsFunc(list, func(p *place) bool { return p.until.IsZero() })
	first := 0
	if len(list) > 1 {
		first = int(z.turn.Add(1) % uint32(len(list)))
	}
	for i := range list {
		p := list[(first+i)%len(list)]
		if p.until.IsZero() == there {
			room = append(room, p.Addrs...)
		}
	}
	return room
}

// host are the host's addresses for a container: those of a network that leads out before those of one that does not.
func (o *occupant) host(room []netip.Addr) []netip.Addr {
	for _, internal := range []bool{false, true} {
		for _, p := range o.places {
			if p.seg.Internal == internal && len(p.seg.Gateways) > 0 {
				return append(room, p.seg.Gateways...)
			}
		}
	}
	return room
}

// reverse finds the name of an address that the container shares a network with.
func (z *zone) reverse(container string, a netip.Addr) answer {
	if a.IsLoopback() {
		return answer{known: true, name: "localhost"}
	}
	z.mu.RLock()
	defer z.mu.RUnlock()
	o := z.containers[container]
	if o == nil {
		return answer{}
	}
	ours := false
	for _, p := range o.places {
		for _, other := range p.seg.addrs[a] {
			if len(other.Names) > 0 {
				return answer{known: true, name: other.Names[0] + "." + p.seg.domain}
			}
		}
		if slices.Contains(p.seg.Gateways, a) {
			return answer{known: true, name: hostNames[0]}
		}
		ours = ours || slices.ContainsFunc(p.seg.Subnets, func(s netip.Prefix) bool { return s.Contains(a) })
	}
	return answer{denied: ours}
}

// outward says whether names of the world are looked up for the container.
func (z *zone) outward(container string) bool {
	z.mu.RLock()
	defer z.mu.RUnlock()
	o := z.containers[container]
	return o == nil || slices.ContainsFunc(o.places, func(p *place) bool { return !p.seg.Internal })
}

func isHostName(name []byte) bool {
	return slices.ContainsFunc(hostNames, func(h string) bool { return string(name) == h })
}

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// loopbackName says whether the name is one of RFC 6761 that never leaves a host: localhost, which exists, or invalid,
// which does not.
func loopbackName(name []byte) (exists, ok bool) {
	last := name
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			last = name[i+1:]
			break
		}
	}
	switch string(last) {
	case "localhost":
		return true, true
	case "invalid":
		return false, true
	}
	return false, false
}

const (
	reverse4 = ".in-addr.arpa"
	reverse6 = ".ip6.arpa"
)

// reverseName reads the name that stands for an address.
func reverseName(name []byte) (netip.Addr, bool) {
	const dot = '.'
	if n := len(name) - len(reverse4); n > 0 && string(name[n:]) == reverse4 {
		parts := strings.Split(string(name[:n]), ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		var b [4]byte
		for i, p := range parts {
			v, err := strconv.ParseUint(p, 10, 8)
			if err != nil || len(p) > 1 && p[0] == '0' {
				return netip.Addr{}, false
			}
			b[3-i] = byte(v)
		}
		return netip.AddrFrom4(b), true
	}
	n := len(name) - len(reverse6)
	if n != 63 || string(name[n:]) != reverse6 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		v, err := strconv.ParseUint(string(name[2*i:2*i+1]), 16, 8)
		if err != nil || i > 0 && name[2*i-1] != dot {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(v) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b).Unmap(), true
}

// write turns the zone's answer into a message; ok is false if the question is not the zone's to answer.
func (a answer) write(buf []byte, q *query, limit int) (_ []byte, ok bool) {
	switch {
	case a.denied:
		return bare(buf, q, rcodeNone, flagAA), true
	case !a.known:
		return buf, false
	}
	r := begin(buf, q, rcodeOK, flagAA)
	if a.name != "" && (q.kind == typePTR || q.kind == typeAny) {
		var b [maxName + 2]byte
		r.record(typePTR, ttl, appendName(b[:0], a.name))
	}
	for _, addr := range a.addrs {
		if kind := addressType(addr); q.kind == kind || q.kind == typeAny {
			r.address(addr, ttl)
		}
	}
	return r.end(q, rcodeOK, limit), true
}

func addressType(a netip.Addr) uint16 {
	if a.Is4() {
		return typeA
	}
	return typeAAAA
}
