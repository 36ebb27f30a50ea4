package keeper

import (
	"sync"
	"time"
)

// hands are goroutines that answer one request after another. Those that have answered some have a stack that is large enough:
// growing one anew, piece by piece, takes a twentieth of the keeper's time for a start.
type hands struct {
	idle chan func()
	gone chan struct{} // closed when there are no more requests
	wg   *sync.WaitGroup
}

// handsRest is how long one waits for its next request.
const handsRest = 2 * time.Second

func newHands(wg *sync.WaitGroup) *hands {
	return &hands{idle: make(chan func()), gone: make(chan struct{}), wg: wg}
}

// run has f run, by one that waits or by a new one.
func (h *hands) run(f func()) {
	select {
	case h.idle <- f:
	default:
		h.wg.Add(1)
		go h.work(f)
	}
}

func (h *hands) work(f func()) {
	defer h.wg.Done()
	rest := time.NewTimer(handsRest)
	defer rest.Stop()
	for {
		f()
		rest.Reset(handsRest)
		select {
		case f = <-h.idle:
		case <-h.gone:
			return
		case <-rest.C:
			return
		}
	}
}
