package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/build"
)

// builder is what the API needs of the builder.
type builder interface {
	Solve(ctx context.Context, r build.Request, status build.Status) (*build.Response, error)
	Usage(ctx context.Context, filters []string) ([]build.Record, error)
	Prune(ctx context.Context, o build.PruneOptions, report func(build.Record)) (int64, error)
}

// buildKit is what the API needs of BuildKit's protocol.
type buildKit interface {
	// ServeGRPC takes a connection over and returns at once.
	ServeGRPC(conn net.Conn) error
	// ServeSession returns when the session has ended.
	ServeSession(ctx context.Context, conn net.Conn, header map[string][]string) error
	// ServeBuild serves POST /build of clients that open a session beside it.
	ServeBuild(w http.ResponseWriter, r *http.Request) error
	CancelBuild(id string) error
	// Usage are the bytes of what clients sent and is kept, Prune removes it.
	Usage() int64
	Prune(ctx context.Context) (int64, error)
}

// routeBuild serves builds: kist's own, docker's classic ones, and BuildKit's clients.
func (s *Server) routeBuild() {
	if s.Builder == nil {
		for _, path := range []string{"/build", "/build/cancel", "/build/prune", "/grpc", "/session", "/kist/build"} {
			s.handle("POST "+path, refuse("building images"))
		}
		return
	}
	s.handle("POST /build", s.buildImage)
	s.handle("POST /build/cancel", s.buildCancel)
	s.handle("POST /build/prune", s.buildPrune)
	s.handle("POST /grpc", s.buildGRPC)
	s.handle("POST /session", s.buildSession)
	s.handle("POST /kist/build", s.buildKist)
	s.handle("POST /kist/build/give", s.buildGive)
}

// buildImage serves docker's classic builds, and those of docker commands of 2018 to 2022 with BuildKit.
func (s *Server) buildImage(w http.ResponseWriter, r *request) error {
	if r.query().Get("version") != "2" {
		return s.buildClassic(w, r)
	}
	t, ok := w.(*tracker)
	if !ok {
		return fmt.Errorf("build: the answer is a %T", w)
	}
	return s.BuildKit.ServeBuild(t, r.Request)
}

func (s *Server) buildCancel(w http.ResponseWriter, r *request) error {
	id := r.query().Get("id")
	if id == "" {
		return fmt.Errorf("the id of the build to cancel is missing: %w", errdefs.ErrInvalidArgument)
	}
	if err := s.BuildKit.CancelBuild(id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) buildGRPC(w http.ResponseWriter, r *request) error {
	conn, err := takeOver(w, r, "h2c")
	if err != nil {
		return err
	}
	return s.BuildKit.ServeGRPC(conn)
}

func (s *Server) buildSession(w http.ResponseWriter, r *request) error {
	conn, err := takeOver(w, r, "h2c")
	if err != nil {
		return err
	}
	return s.BuildKit.ServeSession(context.WithoutCancel(r.Context()), conn, r.Header)
}

// takeOver answers a request to change the protocol and gives the connection away.
func takeOver(w http.ResponseWriter, r *request, protocol string) (net.Conn, error) {
	if got := r.Header.Get("Upgrade"); got != protocol {
		return nil, fmt.Errorf("this is no request for the protocol %s but for %q: %w", protocol, got, errdefs.ErrInvalidArgument)
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	if t, ok := w.(*tracker); ok {
		t.began = true
	}
	head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\nApi-Version: " + newest.String() + "\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, fmt.Errorf("answer the upgrade: %w", errors.Join(err, conn.Close()))
	}
	if buf.Reader.Buffered() == 0 {
		return conn, nil
	}
	return &ahead{Conn: conn, r: buf.Reader}, nil
}

// ahead is a connection whose client has sent ahead of the answer.
type ahead struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (a *ahead) Read(p []byte) (int, error) {
	if a.r.Buffered() > 0 {
		return a.r.Read(p[:min(len(p), a.r.Buffered())])
	}
	return a.Conn.Read(p)
}

// CloseWrite ends what is sent.
func (a *ahead) CloseWrite() error {
	if c, ok := a.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
