package dns

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of the questions on their way: of all clients, and of one.
const (
	maxFlying       = 2048
	maxFlyingClient = 512
)

// forwarder asks resolvers, each question once at a time, and remembers what they say.
type forwarder struct {
	host   *hostResolvers
	cache  *cache
	health health

	mu      sync.Mutex // guards what follows
	flights map[string]*flight
	flying  int // questions that wait
}

// flight is one question on its way; done is closed when it is answered, or is known not to be.
type flight struct {
	done chan struct{}
	r    *response
}

func newForwarder(resolv, real string) *forwarder {
	f := &forwarder{cache: newCache(), flights: map[string]*flight{}}
	f.host = &hostResolvers{path: resolv, real: real, changed: f.cache.clear}
	return f
}

// admit counts a question in; release counts it out.
func (f *forwarder) admit(c *client) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flying >= maxFlying || c.flying >= maxFlyingClient {
		return false
	}
	f.flying++
	c.flying++
	return true
}

func (f *forwarder) release(c *client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flying--
	c.flying--
}

// resolve finds the answer to a client's question, which is nil if nobody has one.
func (f *forwarder) resolve(ctx context.Context, c *client, q *query) *response {
	k := appendKey(nil, c.group, q)
	f.mu.Lock()
	one := f.flights[string(k)]
	if one == nil {
		if r, _ := f.cache.get(k, time.Now()); r != nil { // a flight has landed since the caller looked
			f.mu.Unlock()
			return r
		}
		one = &flight{done: make(chan struct{})}
		f.flights[string(k)] = one
		f.mu.Unlock()
		f.fly(ctx, c, q, k, one)
		return one.r
	}
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.r
	case <-ctx.Done():
		return nil
	}
}

func (f *forwarder) fly(ctx context.Context, c *client, q *query, k key, one *flight) {
	a := asked{canon: slices.Clone(q.canon()), kind: q.kind, flags: q.flags, dnssec: q.dnssec}
	d, servers := c.resolvers(f.host)
	if r, err := a.askAll(ctx, d, servers, &f.health); err == nil || r != nil {
		r.got = time.Now()
		f.cache.put(k, r)
		one.r = r
	}
	f.mu.Lock()
	delete(f.flights, string(k))
	f.mu.Unlock()
	close(one.done)
}

// resolvers are those that are asked for a client: the container's own, from within its network, or the host's.
func (c *client) resolvers(h *hostResolvers) (dialer, []netip.AddrPort) {
	if len(c.servers) > 0 {
		return c, c.servers
	}
	return hostDialer{}, h.list(time.Now())
}
