package api

import "net/http"

// processes serves the processes of all containers, or of those that are named, at one moment.
func (s *Server) processes(w http.ResponseWriter, r *request) error {
	list, err := s.Containers.Processes(r.Context(), r.query()["container"])
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}
