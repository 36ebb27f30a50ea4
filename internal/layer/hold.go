package layer

import (
	"github.com/opencontainers/go-digest"
)

// Hold keeps layers from Collect until it is released: those of an operation under way, which nobody names yet.
type Hold struct {
	s    *Store
	held map[digest.Digest]struct{} // nil once released; guarded by Store.mu
}

// Hold begins a hold on nothing.
func (s *Store) Hold() *Hold { return &Hold{s: s, held: make(map[digest.Digest]struct{})} }

// Take adds layers to the hold and reports whether all of them are there; if so they stay until Release.
func (h *Hold) Take(ids ...digest.Digest) bool {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	all := true
	for _, id := range ids {
		all = all && h.s.has(id)
		h.take(id)
	}
	return all && h.held != nil
}

// take adds a layer. Store.mu is held.
func (h *Hold) take(id digest.Digest) {
	if h.held == nil {
		return
	}
	if _, ok := h.held[id]; !ok {
		h.held[id] = struct{}{}
		h.s.holds[id]++
	}
}

// Release ends the hold. It may be called twice.
func (h *Hold) Release() {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	for id := range h.held {
		if h.s.holds[id]--; h.s.holds[id] == 0 {
			delete(h.s.holds, id)
		}
	}
	h.held = nil
}
