package api

import (
	"net/http"
	"net/http/pprof" //nolint:gosec // What it adds to the default mux is served by nobody.
)

// routeDebug serves profiles of the daemon, as dockerd does when it is told to debug.
func (s *Server) routeDebug() {
	if !s.Debug {
		return
	}
	plain := func(h http.HandlerFunc) handler {
		return func(w http.ResponseWriter, r *request) error {
			h(w, r.Request)
			return nil
		}
	}
	s.handle("GET /debug/pprof/", plain(pprof.Index))
	s.handle("GET /debug/pprof/cmdline", plain(pprof.Cmdline))
	s.handle("GET /debug/pprof/profile", plain(pprof.Profile))
	s.handle("GET /debug/pprof/symbol", plain(pprof.Symbol))
	s.handle("GET /debug/pprof/trace", plain(pprof.Trace))
}
