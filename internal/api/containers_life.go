package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/engine"
)

// emptyBody is the length of a body in which clients may say that they have nothing to say: {} or null.
const emptyBody = 7

func (s *Server) containerStart(w http.ResponseWriter, r *request) error {
	if r.ContentLength > emptyBody || r.ContentLength == -1 {
		return fmt.Errorf("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24: %w", errdefs.ErrInvalidArgument)
	}
	if err := s.Containers.Start(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return noContent(w)
}

func stopOptions(r *request) (engine.StopOptions, error) {
	t, err := r.integer("t")
	o := engine.StopOptions{Timeout: t}
	if r.version >= 42 {
		o.Signal = r.query().Get("signal")
	}
	return o, err
}

func (s *Server) containerStop(w http.ResponseWriter, r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.Containers.Stop(r.Context(), r.PathValue("id"), o); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) containerRestart(w http.ResponseWriter, r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.Containers.Restart(r.Context(), r.PathValue("id"), o); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) containerKill(w http.ResponseWriter, r *request) error {
	if err := s.Containers.Kill(r.Context(), r.PathValue("id"), r.query().Get("signal")); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) containerPause(w http.ResponseWriter, r *request) error {
	if err := s.Containers.Pause(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) containerUnpause(w http.ResponseWriter, r *request) error {
	if err := s.Containers.Unpause(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return noContent(w)
}

// containerWait answers with the headers at once, since API 1.30: clients start the container when they have them.
func (s *Server) containerWait(w http.ResponseWriter, r *request) error {
	condition := container.WaitCondition(r.query().Get("condition"))
	if r.version < 30 {
		condition = ""
	}
	switch condition {
	case "":
		condition = container.WaitConditionNotRunning
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return fmt.Errorf("invalid condition: %q: %w", condition, errdefs.ErrInvalidArgument)
	}
	done, err := s.Containers.Wait(r.Context(), r.PathValue("id"), condition)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if r.version >= 30 {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
	}
	resp, ok := <-done
	if !ok {
		return r.Context().Err()
	}
	return json.NewEncoder(w).Encode(resp)
}
