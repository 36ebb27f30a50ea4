package api

import (
	"io"
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

func (s *Server) routeVolumes() {
	s.handle("GET /volumes", s.volumeList)
	s.handle("POST /volumes/create", s.volumeCreate)
	s.handle("POST /volumes/prune", s.volumePrune)
	s.handle("GET /volumes/{name}", s.volumeInspect)
	s.handle("DELETE /volumes/{name}", s.volumeRemove)
	// Not docker's: the files of a volume as a tar.
	s.handle("GET /kist/volumes/{name}/archive", s.volumeExport)
	s.handle("PUT /kist/volumes/{name}/archive", s.volumeImport)
}

func (s *Server) volumeList(w http.ResponseWriter, r *request) error {
	f, err := r.scopedFilters()
	if err != nil {
		return err
	}
	list, warnings, err := s.Volumes.List(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, volume.ListResponse{Volumes: orEmpty(list), Warnings: warnings})
}

func (s *Server) volumeCreate(w http.ResponseWriter, r *request) error {
	var req volume.CreateRequest
	if err := r.decode(&req, true); err != nil {
		return err
	}
	to := r.project()
	if to != nil {
		labels, err := to.Mark(req.Labels)
		if err == nil {
			err = to.Volume(req.Driver, req.DriverOpts)
		}
		if err != nil {
			return err
		}
		req.Labels = labels
	}
	v, _, err := s.Volumes.Ensure(r.Context(), req.Name, req.Driver, req.Labels, req.DriverOpts)
	if err != nil {
		return err
	}
	if to != nil && !to.Owns(v.Labels) {
		return to.Refuse("the volume " + req.Name + ", which is not the project's,")
	}
	return writeJSON(w, http.StatusCreated, v)
}

func (s *Server) volumeInspect(w http.ResponseWriter, r *request) error {
	v, err := s.Volumes.Inspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v)
}

func (s *Server) volumeRemove(w http.ResponseWriter, r *request) error {
	if err := s.Volumes.Remove(r.Context(), r.PathValue("name"), r.boolean("force")); err != nil {
		return err
	}
	return noContent(w)
}

// volumePrune prunes named volumes too before API 1.42, as docker did.
func (s *Server) volumePrune(w http.ResponseWriter, r *request) error {
	f, err := r.scopedFilters()
	if err != nil {
		return err
	}
	if r.version < 42 && !f.Has("all") {
		if f == nil {
			f = map[string][]string{}
		}
		f["all"] = []string{"true"}
	}
	report, err := s.Volumes.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

func (s *Server) volumeExport(w http.ResponseWriter, r *request) error {
	return s.Volumes.Export(r.Context(), r.PathValue("name"), func() (io.Writer, error) {
		w.Header().Set("Content-Type", "application/x-tar")
		return w, nil
	})
}

func (s *Server) volumeImport(w http.ResponseWriter, r *request) error {
	if err := s.Volumes.Import(r.Context(), r.PathValue("name"), r.Body, r.boolean("merge")); err != nil {
		return err
	}
	return noContent(w)
}
