package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
)

func (s *Server) routeContainers() {
	s.handle("GET /containers/json", s.containerList)
	s.handle("POST /containers/create", s.containerCreate)
	s.handle("POST /kist/containers/create", s.containerCreateWithSecrets)
	s.handle("POST /kist/containers/{id}/takeover", s.containerTakeover)
	s.handle("POST /containers/prune", s.containerPrune)
	s.handle("GET /containers/{id}/json", s.containerInspect)
	s.handle("GET /containers/{id}/top", s.containerTop)
	s.handle("GET /kist/processes", s.processes)
	s.handle("GET /containers/{id}/changes", s.containerChanges)
	s.handle("POST /containers/{id}/start", s.containerStart)
	s.handle("POST /containers/{id}/stop", s.containerStop)
	s.handle("POST /containers/{id}/restart", s.containerRestart)
	s.handle("POST /containers/{id}/kill", s.containerKill)
	s.handle("POST /containers/{id}/pause", s.containerPause)
	s.handle("POST /containers/{id}/unpause", s.containerUnpause)
	s.handle("POST /containers/{id}/rename", s.containerRename)
	s.handle("POST /containers/{id}/update", s.containerUpdate)
	s.handle("POST /containers/{id}/resize", s.containerResize)
	s.handle("POST /containers/{id}/wait", s.containerWait)
	s.handle("DELETE /containers/{id}", s.containerRemove)
	s.handle("POST /commit", s.containerCommit)
	s.handle("GET /kist/containers/{id}/ending", s.containerEnding)
}

func (s *Server) containerList(w http.ResponseWriter, r *request) error {
	f, err := r.scopedFilters()
	if err != nil {
		return err
	}
	limit, err := r.integer("limit")
	if err != nil {
		return err
	}
	o := engine.ListOptions{All: r.boolean("all"), Size: r.boolean("size"), Filters: f}
	if limit != nil {
		o.Limit = *limit
	}
	list, err := s.Containers.List(r.Context(), o)
	if err != nil {
		return err
	}
	if list == nil {
		list = []engine.Summary{}
	}
	return writeJSON(w, http.StatusOK, listedFor(r.version, list))
}

func (s *Server) containerCreate(w http.ResponseWriter, r *request) error {
	return s.create(w, r, func(name string, p *ocispec.Platform, req container.CreateRequest, _ []byte) (container.CreateResponse, error) {
		return s.Containers.Create(r.Context(), name, p, req)
	})
}

// create reads a request for a container, sees that the socket may ask for it, and answers with what of makes of it; raw is the
// request's body.
func (s *Server) create(
	w http.ResponseWriter, r *request, of func(name string, p *ocispec.Platform, req container.CreateRequest, raw []byte) (container.CreateResponse, error),
) error {
	platform, err := platformOf(r.query().Get("platform"))
	if err != nil {
		return err
	}
	raw, err := r.body(false)
	if err != nil {
		return err
	}
	req, err := decodeCreate(r.version, raw)
	if err == nil {
		err = s.confine(r, &req)
	}
	if err != nil {
		return err
	}
	resp, err := of(r.query().Get("name"), platform, req, raw)
	if err != nil {
		return err
	}
	if resp.Warnings == nil {
		resp.Warnings = []string{}
	}
	return writeJSON(w, http.StatusCreated, resp)
}

// platformOf reads a platform in both forms that clients send: os/arch/variant, or an OCI platform as JSON.
func platformOf(raw string) (*ocispec.Platform, error) {
	if raw == "" {
		return nil, nil
	}
	if raw[0] == '{' {
		p := new(ocispec.Platform)
		if err := json.Unmarshal([]byte(raw), p); err != nil {
			return nil, fmt.Errorf("invalid platform %q: %w: %w", raw, err, errdefs.ErrInvalidArgument)
		}
		return p, nil
	}
	p, err := platforms.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("invalid platform: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	p = platforms.Normalize(p)
	return &p, nil
}

func (s *Server) containerInspect(w http.ResponseWriter, r *request) error {
	resp, err := s.Containers.Inspect(r.Context(), r.PathValue("id"), r.boolean("size"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, inspectFor(r.version, resp))
}

// containerEnding tells why a container ended, also one that is removed when it exits.
func (s *Server) containerEnding(w http.ResponseWriter, r *request) error {
	end := s.Containers.Ending(r.PathValue("id"))
	if end == nil {
		return fmt.Errorf("nothing is known of the end of %s: %w", r.PathValue("id"), errdefs.ErrNotFound)
	}
	return writeJSON(w, http.StatusOK, end)
}

func (s *Server) containerTop(w http.ResponseWriter, r *request) error {
	resp, err := s.Containers.Top(r.Context(), r.PathValue("id"), r.query().Get("ps_args"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}

func (s *Server) containerChanges(w http.ResponseWriter, r *request) error {
	list, err := s.Containers.Changes(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if list == nil {
		list = []container.FilesystemChange{}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) containerRename(w http.ResponseWriter, r *request) error {
	if err := s.Containers.Rename(r.Context(), r.PathValue("id"), r.query().Get("name")); err != nil {
		return err
	}
	return noContent(w)
}

// updateRequest is docker's, and the ports that kist also publishes and withdraws while a container runs.
type updateRequest struct {
	container.UpdateConfig
	// PublishAdd are bindings to add. PublishRemove are those to withdraw; a port without bindings is withdrawn altogether.
	PublishAdd, PublishRemove network.PortMap
}

func (s *Server) containerUpdate(w http.ResponseWriter, r *request) error {
	var c updateRequest
	err := r.decode(&c, false)
	if err == nil {
		err = noNulls(c.Resources)
	}
	if err != nil {
		return err
	}
	if to := r.scope(); to != nil {
		if err := to.Update(c.UpdateConfig); err != nil {
			return err
		}
	}
	if r.version < 55 {
		c.BlkioWeightDevice, c.BlkioDeviceReadBps, c.BlkioDeviceWriteBps, c.BlkioDeviceReadIOps, c.BlkioDeviceWriteIOps = nil, nil, nil, nil, nil
	}
	var resp container.UpdateResponse
	ports := len(c.PublishAdd)+len(c.PublishRemove) > 0
	if ports {
		if err := s.Containers.Publish(r.Context(), r.PathValue("id"), c.PublishAdd, c.PublishRemove); err != nil {
			return err
		}
	}
	if !ports || !reflect.ValueOf(c.UpdateConfig).IsZero() {
		if resp, err = s.Containers.Update(r.Context(), r.PathValue("id"), c.UpdateConfig); err != nil {
			return err
		}
	}
	if resp.Warnings == nil {
		resp.Warnings = []string{}
	}
	return writeJSON(w, http.StatusOK, resp)
}

// size reads the terminal's size from h and w.
func size(r *request) (rows, cols uint16, err error) {
	h, err1 := r.integer("h")
	w, err2 := r.integer("w")
	if err1 != nil || err2 != nil || h == nil || w == nil || *h < 0 || *w < 0 || *h > 0xffff || *w > 0xffff {
		return 0, 0, fmt.Errorf("invalid terminal size: h=%q w=%q: %w", r.query().Get("h"), r.query().Get("w"), errdefs.ErrInvalidArgument)
	}
	return uint16(*h), uint16(*w), nil
}

func (s *Server) containerResize(w http.ResponseWriter, r *request) error {
	rows, cols, err := size(r)
	if err != nil {
		return err
	}
	if err := s.Containers.Resize(r.Context(), r.PathValue("id"), rows, cols); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) containerRemove(w http.ResponseWriter, r *request) error {
	if r.boolean("link") {
		return fmt.Errorf("removing a link is not served: links are made anew at each start: %w", errdefs.ErrNotImplemented)
	}
	o := engine.RemoveOptions{Force: r.boolean("force"), Volumes: r.boolean("v")}
	if err := s.Containers.Remove(r.Context(), r.PathValue("id"), o); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) containerPrune(w http.ResponseWriter, r *request) error {
	f, err := r.scopedFilters()
	if err != nil {
		return err
	}
	report, err := s.Containers.PruneContainers(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

func (s *Server) containerCommit(w http.ResponseWriter, r *request) error {
	q := r.query()
	o := engine.CommitOptions{
		Ref: refOf(q.Get("repo"), q.Get("tag")), Author: q.Get("author"), Comment: q.Get("comment"),
		Changes: q["changes"], Pause: r.booleanOr("pause", true),
	}
	if r.ContentLength != 0 {
		o.Config = new(container.Config)
		if err := r.decode(o.Config, true); err != nil {
			return err
		}
	}
	id, err := s.Containers.Commit(r.Context(), q.Get("container"), o)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, container.CommitResponse{ID: id})
}
