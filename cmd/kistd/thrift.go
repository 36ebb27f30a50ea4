package main

import (
	"net/http"
	"runtime/debug"
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

	mu   sync.Mutex // guards rest
	rest *time.Timer
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
		t.rest = time.AfterFunc(restAfter, settle)
	case t.rest.Reset(restAfter): // It was awake.
		return
	}
	debug.SetGCPercent(garbageBusy)
}

func settle() {
	debug.SetGCPercent(garbageIdle)
	debug.FreeOSMemory()
}
