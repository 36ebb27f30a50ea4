package network

import (
	"sync"
	"time"
)

const (
	// rest is how long the pool waits after a take before it fills up: the container that took has better use of the CPU.
	rest = 8 * time.Millisecond
	// idle is how long the pool stays at a size that nobody needs.
	idle = time.Minute
)

// pool keeps wired namespaces ready. It grows when it was found empty and shrinks when it was left alone.
type pool struct {
	make     func() (*parked, error)
	min, max int

	wake chan struct{}
	done chan struct{}

	mu     sync.Mutex // guards what follows
	ready  []*parked
	target int // 0 once closed
}

func newPool(atLeast, atMost int, makeOne func() (*parked, error)) *pool {
	p := &pool{
		make: makeOne, min: atLeast, max: atMost, target: atLeast,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go p.fill()
	p.poke()
	return p
}

// take returns a namespace, or nil if none is ready.
func (p *pool) take() *parked {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.poke()
	if len(p.ready) == 0 {
		p.target = min(2*p.target, p.max)
		return nil
	}
	one := p.ready[0]
	p.ready = p.ready[1:]
	return one
}

// takeIf returns the first namespace that fits, or nil.
func (p *pool) takeIf(fits func(*parked) bool) *parked {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, one := range p.ready {
		if fits(one) {
			p.ready = append(p.ready[:i:i], p.ready[i+1:]...)
			return one
		}
	}
	return nil
}

// close ends the filler and returns what was ready.
func (p *pool) close() []*parked {
	p.mu.Lock()
	p.target = 0
	p.mu.Unlock()
	p.poke()
	<-p.done
	return p.ready
}

func (p *pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// fill runs until the pool is closed. A namespace that cannot be made is tried again at the next take, whose caller makes
// one itself and sees the error.
func (p *pool) fill() {
	defer close(p.done)
	lull := time.NewTimer(idle)
	defer lull.Stop()
	for {
		select {
		case <-p.wake:
			lull.Reset(idle)
		case <-lull.C:
			if p.shrink() {
				lull.Reset(idle)
			}
			continue
		}
		time.Sleep(rest)
		for p.wanted() {
			one, err := p.make()
			if err != nil {
				break
			}
			p.put(one)
		}
		if p.closed() {
			return
		}
	}
}

func (p *pool) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready) < p.target
}

func (p *pool) closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target == 0
}

func (p *pool) put(one *parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, one)
}

// shrink lowers what the pool fills up to, and says whether it could be lower still; what is ready stays until it is used.
func (p *pool) shrink() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.target > 0 {
		p.target = max(p.target/2, p.min)
	}
	return p.target > p.min
}
