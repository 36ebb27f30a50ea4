package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/image"
)

// Image names hold slashes, so what follows a name is cut off by hand.
func (s *Server) routeImages() {
	s.handle("GET /images/json", s.imageList)
	s.handle("GET /kist/images/tree", s.imageTree)
	s.handle("POST /images/create", s.imageCreate)
	s.handle("POST /images/load", s.imageLoad)
	s.handle("POST /images/prune", s.imagePrune)
	s.handle("GET /images/get", s.imageSave)
	s.handle("GET /images/search", s.imageSearch)
	s.handle("GET /images/{rest...}", byVerb("rest", map[string]imageHandler{
		"json": s.imageInspect, "history": s.imageHistory, "get": s.imageSaveOne, "attestations": s.imageAttestations,
	}))
	s.handle("POST /images/{rest...}", byVerb("rest", map[string]imageHandler{"push": s.imagePush, "tag": s.imageTag}))
	s.handle("DELETE /images/{name...}", s.imageRemove)
	s.handle("GET /distribution/{rest...}", byVerb("rest", map[string]imageHandler{"json": s.distributionInspect}))
}

type imageHandler func(w http.ResponseWriter, r *request, name string) error

// byVerb serves NAME/VERB by the verb, where the name may hold slashes.
func byVerb(wildcard string, verbs map[string]imageHandler) handler {
	return func(w http.ResponseWriter, r *request) error {
		rest := r.PathValue(wildcard)
		i := strings.LastIndexByte(rest, '/')
		if i <= 0 {
			return errPage
		}
		h, ok := verbs[rest[i+1:]]
		if !ok {
			return errPage
		}
		return h(w, r, rest[:i])
	}
}

// refOf joins a repository and a tag or digest.
func refOf(repo, tag string) string {
	switch {
	case repo == "" || tag == "":
		return repo
	case strings.Contains(tag, ":"):
		return repo + "@" + tag
	default:
		return repo + ":" + tag
	}
}

func (s *Server) imageList(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	if old := r.query().Get("filter"); old != "" && r.version < 41 {
		if f == nil {
			f = map[string][]string{}
		}
		f["reference"] = append(f["reference"], old)
	}
	list, err := s.Images.List(r.Context(), r.boolean("all"), r.boolean("shared-size"), f)
	if err != nil {
		return err
	}
	if r.version >= 47 && r.boolean("manifests") {
		for i := range list {
			list[i].Manifests, err = s.Images.Manifests(r.Context(), list[i].ID)
			if err != nil && !errdefs.IsNotFound(err) { // It is being removed.
				return err
			}
		}
	}
	return writeJSON(w, http.StatusOK, imagesFor(r.version, list))
}

// authOf reads the X-Registry-Auth header: base64 of JSON. Docker ignores one it cannot read; so do we, since then the
// registry's own answer says what is missing.
func authOf(r *request) *registry.AuthConfig {
	raw := r.Header.Get("X-Registry-Auth")
	if raw == "" {
		return nil
	}
	text, err := base64.URLEncoding.DecodeString(raw)
	if err != nil {
		return nil
	}
	a := new(registry.AuthConfig)
	if json.Unmarshal(text, a) != nil {
		return nil
	}
	if *a == (registry.AuthConfig{}) {
		return nil
	}
	return a
}

func (s *Server) imageCreate(w http.ResponseWriter, r *request) error {
	q := r.query()
	platform, err := platformOf(q.Get("platform"))
	if err != nil {
		return err
	}
	if to := r.scope(); to != nil && (to.NoPull || q.Get("fromImage") == "") {
		return to.Refuse("bringing an image here")
	}
	if q.Get("fromImage") == "" {
		return s.imageImport(w, r, platform)
	}
	ref := refOf(q.Get("fromImage"), q.Get("tag"))
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return fmt.Errorf("invalid reference format: %q: %w: %w", ref, err, errdefs.ErrInvalidArgument)
	}
	p := newProgress(w)
	_, err = s.Images.Pull(r.Context(), ref, image.PullOptions{
		Platform: platform, Auth: authOf(r), AllTags: reference.IsNameOnly(named), Report: p.report,
	})
	return p.finish(s.explainFull(r.Context(), err))
}

func (s *Server) imageImport(w http.ResponseWriter, r *request, platform *ocispec.Platform) error {
	q := r.query()
	if src := q.Get("fromSrc"); src != "-" {
		return fmt.Errorf("import from %q: only the request's body (fromSrc=-) is served: %w", src, errdefs.ErrNotImplemented)
	}
	p := newProgress(w)
	img, err := s.Images.Import(r.Context(), r.Body, image.ImportOptions{
		Ref: refOf(q.Get("repo"), q.Get("tag")), Message: q.Get("message"), Changes: q["changes"], Platform: platform,
	})
	if err == nil {
		p.report(image.Progress{Status: img.ID.String()})
	}
	return p.finish(s.explainFull(r.Context(), err))
}

func (s *Server) imagePush(w http.ResponseWriter, r *request, name string) error {
	platform, err := platformOf(r.query().Get("platform"))
	if err != nil {
		return err
	}
	ref := refOf(name, r.query().Get("tag"))
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return fmt.Errorf("invalid reference format: %q: %w: %w", ref, err, errdefs.ErrInvalidArgument)
	}
	p := newProgress(w)
	err = s.Images.Push(r.Context(), ref, image.PullOptions{
		Platform: platform, Auth: authOf(r), AllTags: reference.IsNameOnly(named), Report: p.report,
	})
	return p.finish(s.explainFull(r.Context(), err))
}

func (s *Server) imageLoad(w http.ResponseWriter, r *request) error {
	wanted, err := platformsOf(r.query()["platform"])
	if err != nil {
		return err
	}
	// Without full duplex net/http drops the rest of the request at the first word of progress.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		return err
	}
	p := newProgress(w)
	report := p.report
	if r.boolean("quiet") {
		report = func(image.Progress) {}
	}
	loaded, err := s.Images.Load(r.Context(), r.Body, wanted, report)
	if err == nil {
		for _, img := range loaded {
			p.stream(loadedLine(img))
		}
	}
	return p.finish(s.explainFull(r.Context(), err))
}

// loadedLine is what docker load says of an image.
func loadedLine(img *image.Image) string {
	for _, name := range img.Names {
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			if _, ok := named.(reference.Tagged); ok {
				return "Loaded image: " + reference.FamiliarString(named) + "\n"
			}
		}
	}
	return "Loaded image ID: " + img.ID.String() + "\n"
}

func platformsOf(raw []string) ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	for _, one := range raw {
		p, err := platformOf(one)
		if err != nil {
			return nil, err
		}
		if p != nil {
			list = append(list, *p)
		}
	}
	return list, nil
}

func (s *Server) imageSave(w http.ResponseWriter, r *request) error {
	return s.save(w, r, r.query()["names"])
}

func (s *Server) imageSaveOne(w http.ResponseWriter, r *request, name string) error {
	return s.save(w, r, []string{name})
}

// lateWriter sends the headers with the first byte, so that an error before it is a proper answer.
type lateWriter struct {
	w           http.ResponseWriter
	contentType string
}

func (l *lateWriter) Write(p []byte) (int, error) {
	if l.contentType != "" {
		l.w.Header().Set("Content-Type", l.contentType)
		l.contentType = ""
	}
	return l.w.Write(p)
}

func (s *Server) save(w http.ResponseWriter, r *request, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("no image to save was named: %w", errdefs.ErrInvalidArgument)
	}
	wanted, err := platformsOf(r.query()["platform"])
	if err != nil {
		return err
	}
	return s.Images.Save(r.Context(), names, wanted, &lateWriter{w, "application/x-tar"})
}

func (s *Server) imageInspect(w http.ResponseWriter, r *request, name string) error {
	platform, err := onePlatform(r)
	if err != nil {
		return err
	}
	manifests := r.version >= 48 && r.boolean("manifests")
	if manifests && platform != nil {
		return fmt.Errorf("conflicting options: manifests and platform options cannot both be set: %w", errdefs.ErrInvalidArgument)
	}
	resp, err := s.Images.Inspect(r.Context(), name, platform)
	if err == nil && manifests {
		resp.Manifests, err = s.Images.Manifests(r.Context(), name)
	}
	if err != nil {
		return err
	}
	shaped, err := imageFor(r.version, resp)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, shaped)
}

func (s *Server) imageHistory(w http.ResponseWriter, r *request, name string) error {
	platform, err := onePlatform(r)
	if err != nil {
		return err
	}
	list, err := s.Images.History(r.Context(), name, platform)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, orEmpty(list))
}

func (s *Server) imageAttestations(w http.ResponseWriter, r *request, name string) error {
	platform, err := onePlatform(r)
	if err != nil {
		return err
	}
	list, err := s.Images.Attestations(r.Context(), name, platform, r.query()["type"], r.boolean("statement"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, orEmpty(list))
}

func (s *Server) imageTag(w http.ResponseWriter, r *request, name string) error {
	if err := s.Images.Tag(r.Context(), name, refOf(r.query().Get("repo"), r.query().Get("tag"))); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) imageRemove(w http.ResponseWriter, r *request) error {
	wanted, err := platformsOf(r.query()["platforms"])
	if err != nil {
		return err
	}
	list, err := s.Images.RemovePlatforms(r.Context(), r.PathValue("name"), wanted, r.boolean("force"), r.boolean("noprune"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, orEmpty(list))
}

func (s *Server) imagePrune(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	report, err := s.Images.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

// searchLimit is how many results a search has that asks for no number.
const searchLimit = 25

func (s *Server) imageSearch(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	limit, err := r.integer("limit")
	if err != nil {
		return err
	}
	if limit == nil || *limit == 0 {
		limit = new(int)
		*limit = searchLimit
	}
	list, err := s.Images.Search(r.Context(), r.query().Get("term"), *limit, authOf(r), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, orEmpty(list))
}

func (s *Server) distributionInspect(w http.ResponseWriter, r *request, name string) error {
	resp, err := s.Images.Resolve(r.Context(), name, authOf(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}
