package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
)

// containerCreateWithSecrets is create of a container that gets files which exist in memory only. It is an endpoint of its own,
// because Docker's daemon would pass the secrets over without a word.
func (s *Server) containerCreateWithSecrets(w http.ResponseWriter, r *request) error {
	return s.create(w, r, func(name string, p *ocispec.Platform, req container.CreateRequest, raw []byte) (container.CreateResponse, error) {
		var with struct{ Secrets []engine.Secret }
		if err := json.Unmarshal(raw, &with); err != nil {
			// Not the decoder's words: they may hold a part of a value.
			return container.CreateResponse{}, fmt.Errorf("invalid JSON in the request: Secrets: %w", errdefs.ErrInvalidArgument)
		}
		return s.Containers.CreateWithSecrets(r.Context(), name, p, req, with.Secrets)
	})
}
