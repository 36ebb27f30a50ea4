package buildkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	control "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/grpcerrors"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kistdev/kist/internal/bridge"
	"github.com/kistdev/kist/internal/build"
)

// builder is what the protocol needs of the builder.
type builder interface {
	Solve(ctx context.Context, r build.Request, status build.Status) (*build.Response, error)
	Build(ctx context.Context, r build.Request, f build.Gateway, status build.Status) (*build.Response, error)
	Usage(ctx context.Context, filters []string) ([]build.Record, error)
	Prune(ctx context.Context, o build.PruneOptions, report func(build.Record)) (int64, error)
}

// Config is what a server stands on.
type Config struct {
	Builder builder
	// Dir is a directory of the server's own for the trees that clients send, kept between builds.
	Dir string
	// Blob opens a blob of the content store, for the records of builds.
	Blobs blobs
	// Platforms that can be built for, the machine's own first.
	Platforms func() []ocispec.Platform
	// HostGateway is the address by which containers reach this machine; nil or empty means none.
	HostGateway func() string
	// Version of kist.
	Version string
	// Log takes what no client can be told. Nil is slog's default.
	Log *slog.Logger
}

// Server serves BuildKit's clients.
type Server struct {
	cfg      Config
	sessions *session.Manager
	trees    trees
	jobs     jobs
	bridges  bridges
	legacy   legacy

	ctx    context.Context //nolint:containedctx // ends with the server, and all sessions with it
	cancel context.CancelFunc

	once sync.Once // starts grpc
	grpc *grpc.Server
	in   *handoff
}

// New makes a server. It costs nothing until a client comes.
func New(c Config) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	m, err := session.NewManager()
	if err != nil {
		return nil, fmt.Errorf("buildkit sessions: %w", err)
	}
	s := &Server{cfg: c, sessions: m, in: newHandoff()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.trees.dir = filepath.Join(c.Dir, "trees")
	return s, nil
}

// Close ends all connections.
func (s *Server) Close() error {
	s.cancel()
	_ = s.in.Close()     // It does not fail.
	s.once.Do(func() {}) // Whoever comes now is turned away by the closed handoff.
	if s.grpc != nil {
		s.grpc.Stop()
	}
	return nil
}

// ServeGRPC serves a client on a connection that was taken over from HTTP, and returns when the connection is handed over.
func (s *Server) ServeGRPC(conn net.Conn) error {
	s.once.Do(s.start)
	return s.in.give(conn)
}

// start builds the gRPC server.
func (s *Server) start() {
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(bridge.MaxMessage), grpc.MaxSendMsgSize(bridge.MaxMessage),
		grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
	)
	control.RegisterControlServer(s.grpc, &controller{s: s})
	bridge.NewService(s.bridges.find).Register(s.grpc)
	tracev1.RegisterTraceServiceServer(s.grpc, noTraces{})
	grpc_health_v1.RegisterHealthServer(s.grpc, health.NewServer())
	contentapi.RegisterContentServer(s.grpc, &content{blobs: s.cfg.Blobs, jobs: &s.jobs})
	go func() {
		if err := s.grpc.Serve(s.in); err != nil && !errors.Is(err, net.ErrClosed) {
			s.cfg.Log.Error("buildkit's gRPC server ended", "error", err)
		}
	}()
}

// ServeSession serves the client's side of builds on a connection that was taken over from HTTP, until either side ends
// it. Header is the request's.
func (s *Server) ServeSession(ctx context.Context, conn net.Conn, header map[string][]string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	// BuildKit's manager notices a connection that has ended by its next health check only.
	if err := s.sessions.HandleConn(ctx, &ending{Conn: conn, ended: cancel}, header); err != nil {
		return fmt.Errorf("buildkit session: %w", errors.Join(err, conn.Close()))
	}
	return nil
}

// ending is a connection that tells when it has ended.
type ending struct {
	net.Conn
	ended context.CancelFunc
}

// Read implements net.Conn.
func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	if err != nil {
		e.ended()
	}
	return n, err
}

// noTraces takes clients' traces and keeps none: kist collects none.
type noTraces struct {
	tracev1.UnimplementedTraceServiceServer
}

// Export implements the trace service.
func (noTraces) Export(context.Context, *tracev1.ExportTraceServiceRequest) (*tracev1.ExportTraceServiceResponse, error) {
	return &tracev1.ExportTraceServiceResponse{}, nil
}

// handoff is a listener whose connections are given to it.
type handoff struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handoff) give(conn net.Conn) error {
	select {
	case h.conns <- conn:
		return nil
	case <-h.closed:
		return errors.Join(net.ErrClosed, conn.Close())
	}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return &net.UnixAddr{Name: "grpc", Net: "unix"} }
