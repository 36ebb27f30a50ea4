package buildkit

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	control "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"

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
