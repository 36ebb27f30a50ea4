package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Network is what the server must know of a network.
type Network struct {
	ID string
	// Name is also a domain of the network's containers: web is web.Name too.
	Name string
	// Gateways are the host's addresses on it, none where containers do not reach the host.
	Gateways []netip.Addr
	// Subnets are those of its containers: what has no name in them has none anywhere.
	Subnets []netip.Prefix
	// Internal says that there is no way out: names of the world are not looked up for its containers.
	Internal bool
}

// Endpoint is a container's place in a network.
type Endpoint struct {
	Container, Network string // ids
	// Names are those that the network's containers know it by, the first one being told for its address.
	Names []string
	Addrs []netip.Addr
	// Links are names of other containers in the network that only this container uses: alias to name.
	Links map[string]string
}

// Names of the host, for containers that reach it.
var hostNames = []string{"host.kist.internal", "host.docker.internal", "gateway.docker.internal"}

// zone is the names of all networks.
type zone struct {
	turn atomic.Uint32 // whose address comes first

	mu         sync.RWMutex // guards what follows
	networks   map[string]*segment
	containers map[string]*occupant
}

// segment is one network with its names.
type segment struct {
	Network
	domain string // its name, in lower case
	names  map[string][]*place
	addrs  map[netip.Addr][]*place
}

// occupant is one container with its places in networks.
type occupant struct {
	places []*place // by the networks' names
}

// place is an endpoint that answers, or that has ended and still answers until its time is over.
type place struct {
	Endpoint
	seg   *segment
	until time.Time // zero: it is there
}

func newZone() *zone {
	return &zone{networks: map[string]*segment{}, containers: map[string]*occupant{}}
}

func (z *zone) putNetwork(n Network) {
	z.mu.Lock()
	defer z.mu.Unlock()
	s := z.networks[n.ID]
	if s == nil {
		s = &segment{names: map[string][]*place{}, addrs: map[netip.Addr][]*place{}}
		z.networks[n.ID] = s
	}
	s.Network, s.domain = n, strings.ToLower(n.Name)
}

func (z *zone) dropNetwork(id string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	s := z.networks[id]
	delete(z.networks, id)
	for name, o := range z.containers {
		o.places = slices.DeleteFunc(o.places, func(p *place) bool { return p.seg == s })
		if len(o.places) == 0 {
			delete(z.containers, name)
		}
	}
}

// connect adds an endpoint in place of an earlier one of the same container in the same network.
func (z *zone) connect(e Endpoint) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	s := z.networks[e.Network]
	if s == nil {
		return false
	}
	z.disconnectLocked(e.Container, e.Network)
	p := &place{Endpoint: e, seg: s}
	p.Names = make([]string, 0, len(e.Names))
	for _, name := range e.Names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if name != "" && !slices.Contains(p.Names, name) {
			p.Names = append(p.Names, name)
			s.names[name] = append(s.names[name], p)
		}
	}
	for _, a := range e.Addrs {
		s.addrs[a] = append(s.addrs[a], p)
	}
	p.Links = map[string]string{}
	for alias, name := range e.Links {
		p.Links[strings.ToLower(alias)] = strings.ToLower(name)
	}
	o := z.containers[e.Container]
	if o == nil {
		o = &occupant{}
		z.containers[e.Container] = o
	}
	o.places = append(o.places, p)
	slices.SortFunc(o.places, func(a, b *place) int { return strings.Compare(a.seg.Name, b.seg.Name) })
	return true
}

func (z *zone) disconnect(container, network string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.disconnectLocked(container, network)
}

// disconnectLocked removes a container's place in a network, or in all if network is empty.
func (z *zone) disconnectLocked(container, network string) {
	o := z.containers[container]
	if o == nil {
		return
	}
	o.places = slices.DeleteFunc(o.places, func(p *place) bool {
		if network != "" && p.Network != network {
			return false
		}
		for _, name := range p.Names {
			dropFrom(p.seg.names, name, p)
		}
		for _, a := range p.Addrs {
			dropFrom(p.seg.addrs, a, p)
		}
		return true
	})
	if len(o.places) == 0 {
		delete(z.containers, container)
	}
}

// dropFrom takes a place out of a list that others may be reading no longer: the writer's lock is held.
func dropFrom[K comparable](m map[K][]*place, key K, p *place) {
	m[key] = slices.DeleteFunc(m[key], func(o *place) bool { return o == p })
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// leave has the container's names answer until then.
func (z *zone) leave(container string, until time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if o := z.containers[container]; o != nil {
		for _, p := range o.places {
			p.until = until
		}
	}
}

// expire removes what has answered long enough, and says whether something is left that will.
func (z *zone) expire(now time.Time) (more bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for id, o := range z.containers {
		for _, p := range slices.Clone(o.places) {
			switch {
			case p.until.IsZero():
			case now.After(p.until):
				z.disconnectLocked(id, p.Network)
			default:
				more = true
			}
		}
	}
	return more
}
