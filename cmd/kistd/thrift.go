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

// thrift collects garbage seldom while containers are started and stopped, and gives the memory back when that has ceased.
// Images are another matter: they need much memory at a time.
type thrift struct {
	next http.Handler

	mu   sync.Mutex // guards rest
	rest *time.Timer
}

func (t *thrift) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/containers/") || strings.Contains(r.URL.Path, "/exec/") {
		t.awake()
	}
	t.next.ServeHTTP(w, r)
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
