package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	control "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"

	"github.com/kistdev/kist/internal/build"
)

// docker's commands of 2018 to 2022 build without buildx: they post to /build with version=2, open a session beside it, and
// read the progress as BuildKit's messages inside of docker's stream. A context that comes on standard input is posted by a
// second request, whose build id says so.

// The names of docker's remote contexts, and of the messages in its stream.
const (
	remoteSession = "client-session"
	remoteUpload  = "upload-request"
	idTrace       = "moby.buildkit.trace"
	idImage       = "moby.image.id"
	uploadURL     = "http://buildkit-session/request-body"
)

// legacy are the builds that were posted to /build.
type legacy struct {
	mu      sync.Mutex                    // guards what follows
	cancels map[string]context.CancelFunc // by build id
	uploads map[string]*posted            // by build id
}

// posted is where a request that brings a context meets the one that builds it.
type posted struct {
	body chan io.Reader
	done chan struct{} // closed when the build has ended
	uses int
}

// meet finds or makes the meeting point of a build id.
func (l *legacy) meet(id string) (p *posted, leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uploads == nil {
		l.uploads = map[string]*posted{}
	}
	p = l.uploads[id]
	if p == nil {
		p = &posted{body: make(chan io.Reader), done: make(chan struct{})}
		l.uploads[id] = p
	}
	p.uses++
	return p, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.uses--; p.uses == 0 {
			delete(l.uploads, id)
		}
	}
}

// CancelBuild ends a build that was posted to /build.
func (s *Server) CancelBuild(id string) error {
	s.legacy.mu.Lock()
	defer s.legacy.mu.Unlock()
	cancel, ok := s.legacy.cancels[id]
	if !ok {
		return fmt.Errorf("no build with the id %q: %w", id, errdefs.ErrNotFound)
	}
	cancel()
	return nil
}

// ServeBuild serves POST /build with version=2. An error is returned while it can still be a proper answer.
func (s *Server) ServeBuild(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	id := q.Get("buildid")
	if upload, ok := strings.CutPrefix(id, remoteUpload+":"); ok {
		return s.bring(r, upload)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if id != "" {
		s.legacy.mu.Lock()
		if s.legacy.cancels == nil {
			s.legacy.cancels = map[string]context.CancelFunc{}
		}
		s.legacy.cancels[id] = cancel
		s.legacy.mu.Unlock()
		defer func() {
			s.legacy.mu.Lock()
			delete(s.legacy.cancels, id)
			s.legacy.mu.Unlock()
		}()
	}
	solve, err := legacyRequest(q)
	if err != nil {
		return err
	}
	req, err := s.request(ctx, solve)
	if err != nil {
		return err
	}
	switch remote := q.Get("remote"); remote {
	case remoteSession:
	case remoteUpload:
		p, leave := s.legacy.meet(id)
		defer leave()
		defer close(p.done)
		req.Session = &withBody{Session: req.Session, meet: p}
		req.Attrs["context"] = uploadURL
	case "":
		p := &posted{body: make(chan io.Reader, 1)}
		p.body <- r.Body
		req.Session = &withBody{Session: req.Session, meet: p}
		req.Attrs["context"] = uploadURL
	default:
		req.Attrs["context"] = remote
	}
	return s.stream(ctx, &messages{w: w, quiet: isSet(q.Get("q"))}, solve, req)
}

// bring gives a request's body to the build that waits for it.
func (s *Server) bring(r *http.Request, id string) error {
	p, leave := s.legacy.meet(id)
	defer leave()
	select {
	case p.body <- r.Body:
	case <-p.done:
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
	select {
	case <-p.done: // The body may be read until then.
	case <-r.Context().Done():
	}
	return nil
}

// withBody is a session whose uploaded context is a request's body.
type withBody struct {
	build.Session
	meet *posted
}

// Upload implements build.Session.
func (b *withBody) Upload(ctx context.Context, u string) (io.ReadCloser, error) {
	if u != uploadURL {
		return b.Session.Upload(ctx, u)
	}
	select {
	case r := <-b.meet.body:
		return io.NopCloser(r), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(sessionPatience):
		return nil, fmt.Errorf("the client sends no context: %w", errdefs.ErrFailedPrecondition)
	}
}

// legacyRequest reads docker's build options.
func legacyRequest(q url.Values) (*control.SolveRequest, error) {
	attrs := map[string]string{"image-resolve-mode": "local"}
	for key, attr := range map[string]string{"target": "target", "platform": "platform", "cgroupparent": "cgroup-parent"} {
		if v := q.Get(key); v != "" {
			attrs[attr] = strings.ToLower(v)
			if key != "platform" {
				attrs[attr] = v
			}
		}
	}
	if f := q.Get("dockerfile"); f != "" && f != "." {
		attrs["filename"] = f
	}
	if isSet(q.Get("nocache")) {
		attrs["no-cache"] = ""
	}
	if isSet(q.Get("pull")) {
		attrs["image-resolve-mode"] = "pull"
	}
	if n, err := strconv.ParseInt(q.Get("shmsize"), 10, 64); err == nil && n > 0 {
		attrs["shm-size"] = strconv.FormatInt(n, 10)
	}
	if hosts := q["extrahosts"]; len(hosts) > 0 {
		for i, h := range hosts { // docker says NAME:ADDRESS, BuildKit NAME=ADDRESS
			if name, addr, ok := strings.Cut(h, ":"); ok {
				hosts[i] = name + "=" + addr
			}
		}
		attrs["add-hosts"] = strings.Join(hosts, ",")
	}
	r := &control.SolveRequest{Ref: identity.NewID(), Session: q.Get("session"), Frontend: "dockerfile.v0", FrontendAttrs: attrs, Cache: new(control.CacheOptions)}
	switch mode := q.Get("networkmode"); mode {
	case "", "default":
	case "host":
		r.Entitlements = []string{"network.host"}
		attrs["force-network-mode"] = mode
	case "none":
		attrs["force-network-mode"] = mode
	default:
		return nil, fmt.Errorf("network mode %q is not supported in a build: use default, none or host: %w", mode, errdefs.ErrInvalidArgument)
	}
	return r, errors.Join(legacyMaps(q, r), legacyOutputs(q, r))
}

func isSet(v string) bool {
	switch strings.ToLower(v) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// legacyMaps reads the options that are JSON.
func legacyMaps(q url.Values, r *control.SolveRequest) error {
	var args map[string]*string
	var labels map[string]string
	var caches []string
	var limits []struct {
		Name       string
		Soft, Hard int64
	}
	for key, v := range map[string]any{"buildargs": &args, "labels": &labels, "cachefrom": &caches, "ulimits": &limits} {
		if raw := q.Get(key); raw != "" {
			if err := json.Unmarshal([]byte(raw), v); err != nil {
				return fmt.Errorf("invalid %s: %w: %w", key, err, errdefs.ErrInvalidArgument)
			}
		}
	}
	for k, v := range args {
		if v != nil {
			r.FrontendAttrs["build-arg:"+k] = *v
		}
	}
	for k, v := range labels {
		r.FrontendAttrs["label:"+k] = v
	}
	for _, ref := range caches {
		r.Cache.Imports = append(r.Cache.Imports, &control.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	if v := args["BUILDKIT_INLINE_CACHE"]; v != nil && isSet(*v) {
		r.Cache.Exports = append(r.Cache.Exports, &control.CacheOptionsEntry{Type: "inline"})
	}
	ulimits := make([]string, len(limits))
	for i, l := range limits {
		ulimits[i] = fmt.Sprintf("%s=%d:%d", l.Name, l.Soft, l.Hard)
	}
	if len(ulimits) > 0 {
		r.FrontendAttrs["ulimit"] = strings.Join(ulimits, ",")
	}
	return nil
}

// legacyOutputs reads what is to be made of the result: an image by default.
func legacyOutputs(q url.Values, r *control.SolveRequest) error {
	var outputs []struct {
		Type  string
		Attrs map[string]string
	}
	if raw := q.Get("outputs"); raw != "" {
		if err := json.Unmarshal([]byte(raw), &outputs); err != nil {
			return fmt.Errorf("invalid outputs: %w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	if len(outputs) == 0 {
		r.Exporters = []*control.Exporter{{Type: "moby", Attrs: map[string]string{}}}
	}
	for _, o := range outputs {
		if o.Type == "cacheonly" {
			continue
		}
		if o.Attrs == nil {
			o.Attrs = map[string]string{}
		}
		r.Exporters = append(r.Exporters, &control.Exporter{Type: o.Type, Attrs: o.Attrs})
	}
	if names := q["t"]; len(names) > 0 {
		for _, e := range r.Exporters {
			if e.Type == "moby" || e.Type == "image" {
				e.Attrs["name"] = strings.Join(names, ",")
			}
		}
	}
	return nil
}

// stream runs the build and writes docker's stream.
func (s *Server) stream(ctx context.Context, out *messages, solve *control.SolveRequest, req build.Request) error {
	j, err := s.jobs.begin(solve, time.Now())
	if err != nil {
		return err
	}
	resp, err := s.cfg.Builder.Solve(ctx, req, func(st *client.SolveStatus) {
		j.add(st)
		shallow := *st
		for _, part := range shallow.Marshal() {
			if raw, err := part.MarshalVT(); err == nil {
				out.aux(idTrace, raw)
			}
		}
	})
	j.end(resp, err, time.Now())
	if err != nil {
		if !out.begun() {
			return err
		}
		out.fail(err)
		return nil
	}
	for _, key := range []string{"containerimage.config.digest", "containerimage.digest"} {
		if id := resp.Exporter[key]; id != "" {
			out.image(id)
			break
		}
	}
	return nil
}

// messages is docker's stream of JSON messages.
type messages struct {
	w http.ResponseWriter
	// quiet is docker's -q: nothing but the image's id is written.
	quiet bool

	mu    sync.Mutex // guards began and the writer
	began bool
}

// message is one of them. A []byte in Aux becomes base64, as docker has it.
type message struct {
	ID     string         `json:"id,omitempty"`
	Stream string         `json:"stream,omitempty"`
	Aux    any            `json:"aux,omitempty"`
	Error  string         `json:"error,omitempty"`
	Detail *messageDetail `json:"errorDetail,omitempty"`
}

type messageDetail struct {
	Message string `json:"message"`
}

func (m *messages) begun() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.began
}

func (m *messages) aux(id string, v any) {
	if !m.quiet {
		m.write(message{ID: id, Aux: v})
	}
}

// image tells the image's id.
func (m *messages) image(id string) {
	if m.quiet {
		m.write(message{Stream: id + "\n"})
		return
	}
	m.aux(idImage, struct{ ID string }{id})
}

func (m *messages) fail(err error) {
	m.write(message{Error: err.Error(), Detail: &messageDetail{Message: err.Error()}})
}

func (m *messages) write(v message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.began {
		m.began = true
		m.w.Header().Set("Content-Type", "application/json")
	}
	if json.NewEncoder(m.w).Encode(v) == nil {
		_ = http.NewResponseController(m.w).Flush() // A client that has gone ends the build by its context.
	}
}
