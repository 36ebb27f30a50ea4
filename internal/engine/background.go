package engine

import (
	"context"
	"sync"
	"time"
)

// background is the goroutines that outlive the request which caused them: the handling of exits, restarts, probes,
// clean-up behind a reply. Nothing runs for a container that is idle.
type background struct {
	ctx    context.Context //nolint:containedctx // It is the lifetime of these goroutines, not of a request.
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // guards closed, and wg.Add against Wait
	closed bool
}

func newBackground() *background {
	ctx, cancel := context.WithCancel(context.Background())
	return &background{ctx: ctx, cancel: cancel}
}

// run starts fn unless the engine is closing, and says whether it did.
func (b *background) run(fn func(ctx context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Go(func() { fn(b.ctx) })
	return true
}

// after starts fn when d has passed.
func (b *background) after(d time.Duration, fn func(ctx context.Context)) *time.Timer {
	return time.AfterFunc(d, func() { b.run(fn) })
}

// close ends everything and waits for it.
func (b *background) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.wg.Wait()
}
