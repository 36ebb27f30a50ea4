package api

import "net/http"

// imageTree serves all images as their layers, or one, measured: what each layer adds, and what of it nobody sees.
func (s *Server) imageTree(w http.ResponseWriter, r *request) error {
	if ref := r.query().Get("image"); ref != "" {
		tree, err := s.Images.Tree(r.Context(), ref)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, tree)
	}
	trees, err := s.Images.Trees(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, trees)
}
