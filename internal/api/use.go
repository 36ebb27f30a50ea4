package api

import (
	"fmt"
	"net"
	"net/http"
	"runtime/pprof"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/task"
)

// routeUse adds what says what the daemon and its keeper hold of what leaks. It is for whole sockets of the machine only.
func (s *Server) routeUse() {
	s.handle("GET /kist/debug/use", local(s.debugUse))
	s.handle("GET /kist/debug/goroutines", local(s.debugGoroutines))
}

// local refuses what comes over TCP.
func local(h handler) handler {
	return func(w http.ResponseWriter, r *request) error {
		if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && a.Network() != "unix" {
			return fmt.Errorf("%s is told on this machine only: %w", r.URL.Path, errdefs.ErrPermissionDenied)
		}
		return h(w, r)
	}
}

// use is what the processes hold of what leaks.
type use struct {
	Daemon *task.Use
	Keeper *task.Use `json:",omitempty"`
}

func (s *Server) debugUse(w http.ResponseWriter, r *request) error {
	var u use
	var err error
	if u.Daemon, err = task.Measure(); err != nil {
		return fmt.Errorf("measure the daemon: %w", err)
	}
	if s.Keeper != nil {
		if u.Keeper, err = s.Keeper(r.Context()); err != nil {
			return fmt.Errorf("measure the keeper: %w", err)
		}
	}
	return writeJSON(w, http.StatusOK, u)
}

// debugGoroutines tells where the daemon's goroutines are, those at the same place together.
func (s *Server) debugGoroutines(w http.ResponseWriter, _ *request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	return pprof.Lookup("goroutine").WriteTo(w, 1)
}
