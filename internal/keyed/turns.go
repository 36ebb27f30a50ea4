// Package keyed has what there is one of for each of many things: turns at each, and a limited number of values that are remembered.
package keyed

import (
	"context"
	"sync"
)

// Turns lets one at a time at each of many things, told apart by K. The zero value has nobody at any. It is safe for
// concurrent use.
type Turns[K comparable] struct {
	mu    sync.Mutex // guards taken
	taken map[K]chan struct{}
}

// Take waits until nobody is at the thing, or for the end of ctx, whose error it returns. Release lets the next one in.
func (t *Turns[K]) Take(ctx context.Context, k K) (release func(), err error) {
	for {
		release, other := t.try(k)
		if other == nil {
			return release, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Try is Take that does not wait: ok is false if somebody is at the thing.
func (t *Turns[K]) Try(k K) (release func(), ok bool) {
	release, other := t.try(k)
	return release, other == nil
}

func (t *Turns[K]) try(k K) (release func(), other chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other, busy := t.taken[k]; busy {
		return nil, other
	}
	if t.taken == nil {
		t.taken = map[K]chan struct{}{}
	}
	mine := make(chan struct{})
	t.taken[k] = mine
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.taken, k)
		close(mine)
	}, nil
}
