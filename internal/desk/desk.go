// Package desk is the daemon's side of package front: it carries out whole commands that clients hand in.
package desk

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	docker "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
)

// containers is what the desk needs of the engine.
type containers interface {
	Create(ctx context.Context, name string, platform *ocispec.Platform, r docker.CreateRequest) (docker.CreateResponse, error)
	Start(ctx context.Context, name string) error
	StartAttached(ctx context.Context, name string, o engine.AttachOptions) error
	Wait(ctx context.Context, name string, condition docker.WaitCondition) (<-chan docker.WaitResponse, error)
	Kill(ctx context.Context, name, signal string) error
	Ending(name string) *engine.Ending
	ExecCreate(ctx context.Context, name string, r docker.ExecCreateRequest) (string, error)
	ExecStart(ctx context.Context, id string, o engine.ExecStartOptions) error
	ExecWait(ctx context.Context, id string) (int, error)
}

// Server serves the socket.
type Server struct {
	// Noted, when set before the first use, is told of each container made and each exec, behind the client's back.
	Noted func(conn net.Conn, verb, path string)

	containers containers
	awake      func()
	sessions   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	open   map[*net.UnixConn]struct{}
	closed bool
}

// New makes a server. It calls awake with every command.
func New(c containers, awake func()) *Server {
	return &Server{containers: c, awake: awake, open: map[*net.UnixConn]struct{}{}}
}

// Serve takes commands until the listener is closed.
func (s *Server) Serve(l *net.UnixListener) error {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if !s.admit(conn) {
			_ = conn.Close()
			continue
		}
		go func() {
			defer s.dismiss(conn)
			if err := s.serve(conn); err != nil {
				slog.Debug("command", "error", err)
			}
		}()
	}
}

// admit enters a session; there are none any more after Close.
func (s *Server) admit(conn *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[conn] = struct{}{}
	s.sessions.Add(1)
	return true
}

func (s *Server) dismiss(conn *net.UnixConn) {
	_ = conn.Close()
	s.mu.Lock()
	delete(s.open, conn)
	s.mu.Unlock()
	s.sessions.Done()
}

// Close ends all sessions: what has begun is finished, but nobody waits for the end of a container any more. Those clients ask
// the next daemon.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for conn := range s.open {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // It is as if the client had gone.
	}
	s.mu.Unlock()
	s.sessions.Wait()
}
