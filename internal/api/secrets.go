package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/engine"
)

// containerCreateWithSecrets is create of a container that gets files which exist in memory only. It is an endpoint of its own,
// because Docker's daemon would pass the secrets over without a word.
func (s *Server) containerCreateWithSecrets(w http.ResponseWriter, r *request) error {
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
	var with struct{ Secrets []engine.Secret }
	if err := json.Unmarshal(raw, &with); err != nil {
		// Not the decoder's words: they may hold a part of a value.
		return fmt.Errorf("invalid JSON in the request: Secrets: %w", errdefs.ErrInvalidArgument)
	}
	resp, err := s.Containers.CreateWithSecrets(r.Context(), r.query().Get("name"), platform, req, with.Secrets)
	if err != nil {
		return err
	}
	if resp.Warnings == nil {
		resp.Warnings = []string{}
	}
	return writeJSON(w, http.StatusCreated, resp)
}
