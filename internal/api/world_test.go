package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/event"
)

// fake answers what a test needs; anything else is a nil call and fails the test by the recovered panic's 500.
type fake struct {
	containers
	create func(name string, p *ocispec.Platform, r container.CreateRequest) (container.CreateResponse, error)
	start  func(name string) error
	wait   chan container.WaitResponse
	attach func(o engine.AttachOptions) error
	logs   func(o engine.LogsOptions) error
}

func (f *fake) Create(_ context.Context, name string, p *ocispec.Platform, r container.CreateRequest) (container.CreateResponse, error) {
	return f.create(name, p, r)
}

func (f *fake) Start(_ context.Context, name string) error { return f.start(name) }

func (f *fake) Wait(context.Context, string, container.WaitCondition) (<-chan container.WaitResponse, error) {
	return f.wait, nil
}

func (f *fake) Attach(_ context.Context, _ string, o engine.AttachOptions) error { return f.attach(o) }

func (f *fake) Logs(_ context.Context, _ string, o engine.LogsOptions) error { return f.logs(o) }

func newServer(t *testing.T, f *fake) *Server {
	t.Helper()
	return New(Config{Containers: f, Events: new(event.Bus), Version: "test", Log: slog.New(slog.DiscardHandler)})
}

func do(s *Server, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// listen serves on a real socket: hijacking and flushing need one.
func listen(t *testing.T, f *fake) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: newServer(t, f), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return path
}
