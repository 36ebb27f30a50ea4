package main

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"time"
)

// How much garbage may gather, in percent of what is in use: an idle daemon's memory counts for more than a busy one's.
const (
	garbageIdle = 50
	garbageBusy = 300
)

// restAfter is how long no request must have come before the daemon is idle.
const restAfter = 2 * time.Second

// thrift collects garbage seldom while containers are started and images are built, and gives the memory back when that has
// ceased. Pulling images is another matter: it needs much memory at a time.
type thrift struct {
	next http.Handler

	mu       sync.Mutex // guards what follows
	rest     *time.Timer
	working  bool // the daemon is busy
	watching bool // collections are watched
}

func (t *thrift) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if busy(r.URL.Path) {
		t.awake()
	}
	t.next.ServeHTTP(w, r)
}

// busy says that a request is worth memory: containers' lives, and builds, which answer in a few milliseconds when nothing
// has changed.
func busy(path string) bool {
	return strings.Contains(path, "/containers/") || strings.Contains(path, "/exec/") ||
		strings.HasSuffix(path, "/build") || strings.HasSuffix(path, "/grpc")
}

func (t *thrift) awake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.rest == nil:
		t.rest = time.AfterFunc(restAfter, t.settle)
	case t.rest.Reset(restAfter): // It was awake.
		return
	}
	t.working = true
	debug.SetGCPercent(allowed(inUse()))
	if !t.watching {
		t.watching = true
		runtime.SetFinalizer(new(cycle), t.collected)
	}
}

func (t *thrift) settle() {
	t.mu.Lock()
	t.working = false
	debug.SetGCPercent(garbageIdle)
	t.mu.Unlock()
	debug.FreeOSMemory()
}

// heapEnough is the size up to which garbage may gather freely: in a build with a large context, three times what is in use would be
// too much.
const heapEnough = 64 << 20

// cycle is garbage by which the end of each collection is seen.
type cycle struct{ _ *byte }

// collected sets, after each collection, how much garbage may gather until the next one, as long as the daemon is busy.
func (t *thrift) collected(*cycle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watching = t.working; !t.working {
		return
	}
	debug.SetGCPercent(allowed(inUse()))
	runtime.SetFinalizer(new(cycle), t.collected)
}

// inUse is what the last collection left.
func inUse() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// allowed is the garbage, in percent of what is in use, that a busy daemon may gather.
func allowed(live uint64) int {
	if live == 0 {
		return garbageBusy
	}
	room := max(heapEnough, live) - live
	return int(min(max(room*100/live, garbageIdle), garbageBusy)) //nolint:gosec // within bounds
}
