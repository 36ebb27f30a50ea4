package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/filter"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/volume"
)

// Config is what the API serves.
type Config struct {
	Containers containers
	Host       host
	Images     *image.Store
	Networks   *network.Manager
	Volumes    *volume.Store
	Events     *event.Bus
	// Builder and BuildKit serve builds; without them builds are refused. BuildDir is for what clients send to a build.
	Builder  builder
	BuildKit buildKit
	BuildDir string
	// CacheMounts are the directories of builds' cache mounts; nil means none.
	CacheMounts cacheMounts
	// Bootstrap makes base images of distributions' packages; without it that is refused.
	Bootstrap bootstrapper
	// Mover moves things to other daemons and takes them in; nil refuses that.
	Mover mover
	// HostGateway is the address by which containers reach this machine; empty means none.
	HostGateway func() string
	// Keeper says what the keeper holds; nil leaves it out of what is told for debugging.
	Keeper func(ctx context.Context) (*task.Use, error)
	// Version and Commit of kist, for the version and the Server header.
	Version, Commit string
	// Debug serves profiles.
	Debug bool
	// Log takes the errors that no client can be told, and internal errors beside their answer. Nil is slog's default.
	Log *slog.Logger
}

// Server is an http.Handler for Docker's API.
type Server struct {
	Config
	mux *http.ServeMux
	// patterns are those of all routes.
	patterns []string
	wants    wants
	sent     sentFiles
}

// New builds the routes.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Server{Config: c, mux: http.NewServeMux()}
	s.routeSystem()
	s.routeContainers()
	s.routeStreams()
	s.routeImages()
	s.routeNetworks()
	s.routeVolumes()
	s.routeBuild()
	s.routeCacheMounts()
	s.routeBootstrap()
	s.routeRegistry()
	s.routeMove()
	s.routeDebug()
	s.routeUse()
	s.routeRefused()
	return s
}

// request is an HTTP request with its API version evened out.
type request struct {
	*http.Request
	version version
}

type handler func(w http.ResponseWriter, r *request) error

// handle adds a route. The pattern is one of http.ServeMux without the version prefix.
func (s *Server) handle(pattern string, h handler) {
	s.patterns = append(s.patterns, pattern)
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		req := &request{r, versionOf(r.Context())}
		tracked := &tracker{ResponseWriter: w}
		err := s.permit(pattern, req)
		if err == nil {
			err = h(tracked, req)
		}
		if err != nil {
			s.fail(tracked, req, err)
		}
	})
}

// ServeHTTP strips the version from the path, checks it, and answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recoverPanic(w, r)
	header := w.Header()
	header.Set("Server", "kist/"+s.Version+" (linux)")
	header.Set("Api-Version", newest.String())
	header.Set("Ostype", "linux")
	header.Set("Docker-Experimental", "false")
	v, path, err := splitVersion(r.URL.Path)
	if err == nil && r.Header["Origin"] != nil {
		err = sameOrigin(r)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	if path != r.URL.Path {
		u := *r.URL
		u.Path, u.RawPath = path, ""
		clone := *r
		clone.URL = &u
		r = &clone
	}
	s.mux.ServeHTTP(w, r.WithContext(withVersion(r.Context(), v)))
}

// sameOrigin refuses the web pages of others: a browser sends what they ask for to any TCP socket that it reaches.
func sameOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); origin == "" || ok && a.Network() == "unix" {
		return nil
	}
	if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
		return fmt.Errorf("a page of %s may not ask this daemon for anything: %w", origin, errdefs.ErrPermissionDenied)
	}
	return nil
}

// recoverPanic answers 500 for a programming error instead of tearing the connection down, and logs its stack.
func (s *Server) recoverPanic(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	s.Log.Error("panic in a request", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	writeError(w, fmt.Errorf("internal error: %v", v))
}

// fail tells the client, unless its answer has begun: then the error can only be logged.
func (s *Server) fail(w *tracker, r *request, err error) {
	err = s.explainFull(r.Context(), err)
	status := StatusOf(err)
	if w.began {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errAnswered) && !clientGone(err) {
			level := slog.LevelError
			if status < http.StatusInternalServerError {
				level = slog.LevelInfo // the client's own mistake: a program that is not there
			}
			s.Log.Log(r.Context(), level, "answer broken off", "method", r.Method, "path", r.URL.Path, "error", err)
			// What ended as it should would be taken for all there is: an archive without its last layers.
			panic(http.ErrAbortHandler)
		}
		return
	}
	if status == http.StatusInternalServerError && r.Context().Err() == nil {
		s.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeError(w, err)
}

// tracker knows whether the answer has begun.
type tracker struct {
	http.ResponseWriter
	began bool
}

func (t *tracker) WriteHeader(status int) {
	t.began = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(p []byte) (int, error) {
	t.began = true
	return t.ResponseWriter.Write(p)
}

// Unwrap serves http.ResponseController.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

func noContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxBody bounds JSON bodies. The largest honest one is a container with a seccomp profile of some 100 kB.
const maxBody = 8 << 20

// decode reads a JSON body into v. An empty body leaves v as it is when optional is true.
func (r *request) decode(v any, optional bool) error {
	raw, err := r.body(optional)
	if err != nil || raw == nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("invalid JSON in the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (r *request) body(optional bool) ([]byte, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			// A client that is still writing would meet a closed connection instead of the answer.
			_, _ = io.CopyN(io.Discard, r.Body, 2*maxBody)
		}
		return nil, fmt.Errorf("reading the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if len(raw) == 0 {
		if optional {
			return nil, nil
		}
		return nil, fmt.Errorf("invalid JSON: got EOF while reading request body: %w", errdefs.ErrInvalidArgument)
	}
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/json" {
		return nil, fmt.Errorf("unsupported Content-Type header (%s): must be 'application/json': %w",
			r.Header.Get("Content-Type"), errdefs.ErrInvalidArgument)
	}
	return raw, nil
}

func (r *request) query() url.Values { return r.URL.Query() }

// boolean reads a query parameter as docker does: anything but empty, 0, no, false and none is true.
func (r *request) boolean(key string) bool { return isTrue(r.query().Get(key), false) }

// booleanOr is boolean with a default for a parameter that is not there.
func (r *request) booleanOr(key string, def bool) bool {
	if !r.query().Has(key) {
		return def
	}
	return isTrue(r.query().Get(key), def)
}

func isTrue(s string, empty bool) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "":
		return empty
	case "0", "no", "false", "none":
		return false
	default:
		return true
	}
}

// integer reads an optional number.
func (r *request) integer(key string) (*int, error) {
	raw := r.query().Get(key)
	if raw == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil {
		return nil, fmt.Errorf("invalid value for %s: %q is not a number: %w", key, raw, errdefs.ErrInvalidArgument)
	}
	return &n, nil
}

func (r *request) filters() (filter.Args, error) { return filter.Parse(r.query().Get("filters")) }
