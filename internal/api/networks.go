package api

import (
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
)

func (s *Server) routeNetworks() {
	s.handle("GET /networks", s.networkList)
	s.handle("GET /networks/{id}", s.networkInspect)
	s.handle("DELETE /networks/{id}", s.networkRemove)
	s.handle("POST /networks/create", s.networkCreate)
	s.handle("POST /networks/prune", s.networkPrune)
	s.handle("POST /networks/{id}/connect", s.networkConnect)
	s.handle("POST /networks/{id}/disconnect", s.networkDisconnect)
}

func (s *Server) networkList(w http.ResponseWriter, r *request) error {
	f, err := r.scopedFilters()
	if err != nil {
		return err
	}
	list, err := s.Networks.List(r.Context(), f)
	if err != nil {
		return err
	}
	if r.version >= 28 {
		short := make([]network.Summary, len(list))
		for i := range list {
			short[i] = network.Summary{Network: list[i].Network}
		}
		return writeJSON(w, http.StatusOK, short)
	}
	for i := range list { // Old versions tell of the containers in the list, too.
		if n, err := s.Networks.Inspect(r.Context(), list[i].ID); err == nil {
			list[i].Containers = n.Containers
		}
	}
	return writeJSON(w, http.StatusOK, orEmpty(list))
}

func (s *Server) networkInspect(w http.ResponseWriter, r *request) error {
	name := r.PathValue("id")
	n, err := s.Networks.Inspect(r.Context(), name)
	if err != nil {
		return err
	}
	if scope := r.FormValue("scope"); scope != "" && scope != n.Scope {
		return fmt.Errorf("network %s not found: %w", name, errdefs.ErrNotFound)
	}
	if r.version < 52 {
		n.Status = nil
	}
	return writeJSON(w, http.StatusOK, n)
}

func (s *Server) networkCreate(w http.ResponseWriter, r *request) error {
	var req network.CreateRequest
	if err := r.decode(&req, false); err != nil {
		return err
	}
	if to := r.scope(); to != nil {
		if err := to.Network(&req); err != nil {
			return err
		}
	}
	resp, err := s.Networks.Create(r.Context(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, resp)
}

func (s *Server) networkRemove(w http.ResponseWriter, r *request) error {
	if err := s.Networks.Remove(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) networkConnect(w http.ResponseWriter, r *request) error {
	var req network.ConnectRequest
	if err := r.decode(&req, false); err != nil {
		return err
	}
	if err := s.own(r, &req.Container); err != nil {
		return err
	}
	if err := s.Containers.ConnectNetwork(r.Context(), r.PathValue("id"), req.Container, req.EndpointConfig); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// own puts a container's id in the place of its name where only the project's may be meant.
func (s *Server) own(r *request, container *string) error {
	if r.project() == nil {
		return nil
	}
	id, err := s.objects(r).container(*container)
	if err == nil {
		*container = id
	}
	return err
}

func (s *Server) networkDisconnect(w http.ResponseWriter, r *request) error {
	var req network.DisconnectRequest
	if err := r.decode(&req, false); err != nil {
		return err
	}
	if err := s.own(r, &req.Container); err != nil {
		return err
	}
	if err := s.Containers.DisconnectNetwork(r.Context(), r.PathValue("id"), req.Container, req.Force); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) networkPrune(w http.ResponseWriter, r *request) error {
	f, err := r.scopedFilters()
	if err != nil {
		return err
	}
	report, err := s.Networks.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
