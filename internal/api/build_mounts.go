package api

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/runstep"
)

// cacheMounts is what the API needs of the directories of cache mounts.
type cacheMounts interface {
	List(ctx context.Context) ([]runstep.CacheInfo, error)
	Export(ctx context.Context, id string, w io.Writer) error
	Import(ctx context.Context, id string, r io.Reader) error
}

// routeCacheMounts serves the caches of RUN --mount=type=cache, which leave this machine and come from another one as
// archives.
func (s *Server) routeCacheMounts() {
	if s.CacheMounts == nil {
		return
	}
	s.handle("GET /kist/build/mounts", s.cacheMountList)
	s.handle("GET /kist/build/mounts/tar", s.cacheMountExport)
	s.handle("POST /kist/build/mounts/tar", s.cacheMountImport)
}

func (s *Server) cacheMountList(w http.ResponseWriter, r *request) error {
	all, err := s.CacheMounts.List(r.Context())
	if err != nil {
		return err
	}
	list := make([]buildmsg.CacheMount, len(all))
	for i, c := range all {
		list[i] = buildmsg.CacheMount{Key: c.Key, ID: c.ID, Size: c.Size, Created: c.Created, Used: c.Used, InUse: c.InUse}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (r *request) cacheID() (string, error) {
	id := r.query().Get("id")
	if id == "" {
		return "", fmt.Errorf("the id of the cache mount is missing: %w", errdefs.ErrInvalidArgument)
	}
	return id, nil
}

func (s *Server) cacheMountExport(w http.ResponseWriter, r *request) error {
	id, err := r.cacheID()
	if err != nil {
		return err
	}
	return s.CacheMounts.Export(r.Context(), id, &lateWriter{w, "application/x-tar"})
}

func (s *Server) cacheMountImport(w http.ResponseWriter, r *request) error {
	id, err := r.cacheID()
	if err != nil {
		return err
	}
	if err := s.CacheMounts.Import(r.Context(), id, r.Body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
