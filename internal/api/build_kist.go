package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/buildmsg"
)

// maxBuildRequest bounds the JSON of a build: secrets of half a megabyte each and a Dockerfile are in it.
const maxBuildRequest = 64 << 20

// buildKist serves `kist build`.
func (s *Server) buildKist(w http.ResponseWriter, r *request) error {
	var req buildmsg.Request
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBuildRequest))
	if err := dec.Decode(&req); err != nil {
		return fmt.Errorf("invalid JSON in the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	attrs, grants, err := buildOptions(&req, s.hostGateway())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := newBuildStream(w)
	out.quiet = req.Quiet
	defer out.end(nil) // Nothing writes any more when this has returned, whatever happens.
	session, release, err := s.kistSession(&req, attrs, out)
	if err != nil {
		out.end(nil)
		return err
	}
	defer release()
	resp, err := s.Builder.Solve(ctx, build.Request{
		Ref: strings.ToLower(rand.Text()), Frontend: frontend, Attrs: attrs, Session: session, Exports: exportsOf(&req),
		CacheFrom: cacheOptions(req.CacheFrom), CacheTo: cacheOptions(req.CacheTo), Entitlements: grants,
		Internal: req.Call != "", Record: req.Call == "" && req.Provenance != "",
	}, out.status)
	if err != nil {
		out.end(&buildmsg.Message{Failure: s.buildFailed(r.Context(), err)})
		return nil
	}
	res := buildResult(resp, req.Tags)
	if err := addProvenance(res.Exporter, resp.Provenance, req.Provenance); err != nil {
		out.end(&buildmsg.Message{Failure: s.buildFailed(r.Context(), err)})
		return nil
	}
	if req.Quiet {
		res.Steps = nil
	}
	out.end(&buildmsg.Message{Result: res})
	return nil
}

func (s *Server) hostGateway() string {
	if s.HostGateway == nil {
		return ""
	}
	return s.HostGateway()
}

func buildResult(resp *build.Response, tags []string) *buildmsg.Result {
	res := &buildmsg.Result{Ref: resp.Ref, Exporter: resp.Exporter, Metadata: resp.Metadata, Summary: resp.Summary.Line}
	for _, key := range []string{"containerimage.config.digest", "containerimage.digest"} { // An image's id is its configuration's.
		if res.ID == "" {
			res.ID = resp.Exporter[key]
		}
	}
	if res.ID != "" {
		res.Names = tags
	}
	for _, st := range resp.Summary.Explained {
		res.Steps = append(res.Steps, buildmsg.Step{Name: st.Name, Cached: st.Cached, Reason: st.Reason, Milliseconds: st.Milliseconds})
	}
	return res
}

// isHere says that a client's directory is the one of that path on this machine.
func isHere(d *buildmsg.Dir) bool {
	var st unix.Stat_t
	if !filepath.IsAbs(d.Path) || unix.Stat(d.Path, &st) != nil {
		return false
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Dev == d.Dev && st.Ino == d.Ino
}

// textDir makes a directory that holds a Dockerfile which the client read from its standard input.
func (s *Server) textDir(req *buildmsg.Request) (dir string, err error) {
	if dir, err = s.sentDir("dockerfile"); err != nil {
		return "", err
	}
	name := filepath.Base(req.Dockerfile)
	if req.Dockerfile == "" {
		name = "Dockerfile"
	}
	if err := os.WriteFile(filepath.Join(dir, name), req.Text, 0o600); err != nil {
		return "", fmt.Errorf("keep the Dockerfile: %w", errors.Join(err, os.RemoveAll(dir)))
	}
	return dir, nil
}

// readLimited reads a small answer of a client.
func readLimited(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read the client's answer: %w", err)
	}
	return raw, nil
}
