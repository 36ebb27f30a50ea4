package dns

import (
	"container/list"
	"encoding/binary"
	"sync"
	"time"
)

// Limits of the cache: entries, and bytes of answers.
const (
	cacheEntries = 4096
	cacheBytes   = 2 << 20
)

// key is what makes two questions the same: who is asked, the flags that change the answer, type and name.
type key []byte

// appendKey writes the key of a question that goes to the named group of resolvers.
func appendKey(b []byte, group string, q *query) key {
	flags := byte(q.flags>>8)&(flagRD>>8) | byte(q.flags)&flagCD
	if q.dnssec {
		flags |= 2
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint16(b, q.kind)
	b = append(b, q.canon()...)
	return append(b, group...)
}

// cache remembers responses for as long as they live; the one that was not asked for the longest makes room.
type cache struct {
	mu      sync.Mutex // guards what follows
	entries map[string]*list.Element
	order   list.List // of *cached, the latest asked for first
	bytes   int
}

type cached struct {
	key string
	*response
}

func newCache() *cache { return &cache{entries: map[string]*list.Element{}} }

func (c *cache) put(k key, r *response) {
	if r.lives < time.Second || len(r.wire) > cacheBytes/16 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[string(k)]; e != nil {
		c.dropLocked(e)
	}
	one := &cached{string(k), r}
	c.entries[one.key] = c.order.PushFront(one)
	c.bytes += one.weight()
	for len(c.entries) > cacheEntries || c.bytes > cacheBytes {
		c.dropLocked(c.order.Back())
	}
}

// get returns the response to a question, or nil, and how old it is.
func (c *cache) get(k key, now time.Time) (*response, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[string(k)]
	if e == nil {
		return nil, 0
	}
	one, _ := e.Value.(*cached)
	age := max(now.Sub(one.got), 0)
	if age >= one.lives {
		c.dropLocked(e)
		return nil, 0
	}
	c.order.MoveToFront(e)
	return one.response, age
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.order.Init()
	c.bytes = 0
}

func (c *cache) dropLocked(e *list.Element) {
	one, _ := c.order.Remove(e).(*cached)
	delete(c.entries, one.key)
	c.bytes -= one.weight()
}

func (o *cached) weight() int { return len(o.key) + len(o.wire) + 2*len(o.ttls) + 256 }
