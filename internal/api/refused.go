package api

import (
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
)

// errPage is docker's answer to a path it does not know.
var errPage = fmt.Errorf("page not found: %w", errdefs.ErrNotFound)

// routeRefused answers for what this daemon does not do, as a docker daemon outside a swarm and without plugins would.
func (s *Server) routeRefused() {
	swarm := func(http.ResponseWriter, *request) error {
		return fmt.Errorf(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.: %w`, //nolint:staticcheck // docker's words
			errdefs.ErrUnavailable)
	}
	for _, path := range []string{"/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"} {
		s.handle(path, swarm)
		s.handle(path+"/", swarm)
	}
	s.handle("POST /swarm/init", refuse("swarm mode"))
	s.handle("POST /swarm/join", refuse("swarm mode"))
	outside := func(http.ResponseWriter, *request) error {
		return fmt.Errorf("This node is not part of a swarm: %w", errdefs.ErrUnavailable) //nolint:staticcheck // docker's words
	}
	s.handle("POST /swarm/leave", outside)
	s.handle("POST /swarm/unlock", outside)
	s.handle("GET /plugins", func(w http.ResponseWriter, _ *request) error { return writeJSON(w, http.StatusOK, []struct{}{}) })
	// Not found rather than refused: docker's inspect asks here last for what it has found nowhere else.
	s.handle("GET /plugins/{name}/json", func(_ http.ResponseWriter, r *request) error {
		return fmt.Errorf("plugin %q not found: %w", r.PathValue("name"), errdefs.ErrNotFound)
	})
	s.handle("/plugins/", refuse("plugin management"))
	s.handle("PUT /volumes/{name}", func(http.ResponseWriter, *request) error {
		return fmt.Errorf("volume update only valid for cluster volumes, but swarm is unavailable: %w", errdefs.ErrUnavailable)
	})
	s.handle("/containers/{id}/checkpoints", refuse("checkpoint and restore"))
	s.handle("/containers/{id}/checkpoints/", refuse("checkpoint and restore"))
	s.handle("/", func(http.ResponseWriter, *request) error { return errPage })
}

func refuse(what string) handler {
	return func(http.ResponseWriter, *request) error {
		return fmt.Errorf("%s is not served by this version of kist: %w", what, errdefs.ErrNotImplemented)
	}
}
