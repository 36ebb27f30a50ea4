package api

import (
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	dockernet "github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network"
)

// takeoverRequest is what a container is to have in place of another one.
type takeoverRequest struct {
	// From is the other container.
	From string
	// Ports are bindings, Aliases names by network.
	Ports   dockernet.PortMap
	Aliases map[string][]string
}

// containerTakeover gives a container ports and names of another one, without an interruption.
func (s *Server) containerTakeover(w http.ResponseWriter, r *request) error {
	var t takeoverRequest
	if err := r.decode(&t, false); err != nil {
		return err
	}
	if t.From == "" {
		return fmt.Errorf("the field From is missing: %w", errdefs.ErrInvalidArgument)
	}
	if r.project() != nil {
		from, err := s.objects(r).container(t.From)
		if err != nil {
			return err
		}
		t.From = from
	}
	err := s.Containers.Takeover(r.Context(), r.PathValue("id"), t.From, network.Takeover{Ports: t.Ports, Aliases: t.Aliases})
	if err != nil {
		return err
	}
	return noContent(w)
}
