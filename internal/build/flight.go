package build

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
)

// flights lets a step that several builds want at the same time run once.
type flights struct {
	mu  sync.Mutex // guards all
	all map[digest.Digest]*flight
}

type flight struct {
	done chan struct{} // closed when what follows is there
	outs []output
	err  error
	sure bool // outs are what the key says
}

// do runs fn unless somebody else runs the same. fn also says whether what it made is what the key says. Whoever waited for another
// one's failure, or for what is not sure, tries by itself: the reason may have been the other one's session.
func (f *flights) do(ctx context.Context, key digest.Digest, fn func() (outs []output, sure bool, err error)) (outs []output, shared bool, err error) {
	for {
		f.mu.Lock()
		other, ok := f.all[key]
		if !ok {
			break
		}
		f.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
		if other.err == nil && other.sure {
			return other.outs, true, nil
		}
	}
	own := &flight{done: make(chan struct{})}
	if f.all == nil {
		f.all = map[digest.Digest]*flight{}
	}
	f.all[key] = own
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.all, key)
		f.mu.Unlock()
		close(own.done)
	}()
	own.err = errAbandoned
	own.outs, own.sure, own.err = fn()
	return own.outs, false, own.err
}
