// Package event is the bus on which the parts of the daemon tell what happened to containers, images, networks and
// volumes. It keeps the last events for replay, is bounded in memory, and never lets a slow reader stall a writer.
package event

import (
	"context"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
)

// Kept is how many events the bus holds for replay, as docker does.
const Kept = 256

// pending is how many events a reader may lag behind before it is dropped.
const pending = 1024

// Bus is ready to use as its zero value.
type Bus struct {
	mu      sync.Mutex // guards what follows
	past    []events.Message
	readers map[*reader]struct{}
}

type reader struct {
	ch chan events.Message
}

// Emit stamps the event with the present time and hands it to all readers. It never blocks.
func (b *Bus) Emit(typ events.Type, action events.Action, id string, attributes map[string]string) {
	now := time.Now()
	m := events.Message{
		Type: typ, Action: action, Scope: "local",
		Actor: events.Actor{ID: id, Attributes: attributes},
		Time:  now.Unix(), TimeNano: now.UnixNano(),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.past) == Kept {
		copy(b.past, b.past[1:])
		b.past = b.past[:Kept-1]
	}
	b.past = append(b.past, m)
	for r := range b.readers {
		select {
		case r.ch <- m:
		default: // A reader that lags this far is cut off rather than stalling everybody.
			delete(b.readers, r)
			close(r.ch)
		}
	}
}

// Subscribe returns the kept events since the given time (none if it is zero) and a channel of those that follow,
// without a gap between the two. The channel is closed when ctx ends, or when the reader lags too far behind.
func (b *Bus) Subscribe(ctx context.Context, since time.Time) ([]events.Message, <-chan events.Message) {
	r := &reader{ch: make(chan events.Message, pending)}
	b.mu.Lock()
	defer b.mu.Unlock()
	var past []events.Message
	if !since.IsZero() {
		for _, m := range b.past {
			if m.TimeNano >= since.UnixNano() {
				past = append(past, m)
			}
		}
	}
	if b.readers == nil {
		b.readers = map[*reader]struct{}{}
	}
	b.readers[r] = struct{}{}
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, ok := b.readers[r]; ok {
			delete(b.readers, r)
			close(r.ch)
		}
	})
	return past, r.ch
}
