package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// maxCalls bounds what one frontend may ask at a time; further calls wait.
const maxCalls = 1024

// preface is what a client of HTTP/2 says first (RFC 9113, 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// GarbageError is a peer that speaks something else than gRPC.
type GarbageError struct {
	// Said is what came first.
	Said []byte
}

func (e *GarbageError) Error() string {
	return fmt.Sprintf("it does not speak gRPC: it began with %q", e.Said)
}

// ServeConn serves one frontend on a connection of its own, until the other side has closed it or ctx ends. It closes conn.
// A peer that speaks no gRPC is a *GarbageError.
func (b *Bridge) ServeConn(ctx context.Context, conn net.Conn) error {
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage), grpc.MaxConcurrentStreams(maxCalls),
		grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
	)
	NewService(func(context.Context) (*Bridge, error) { return b, nil }).Register(server)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	one := &only{Conn: conn, closed: make(chan struct{})}
	defer context.AfterFunc(ctx, func() { _ = one.Close() })() // Its reader tells.
	_ = server.Serve(&listener{conn: one})                     // It ends with the only connection.
	server.Stop()
	return one.garbage()
}

// only is the connection of a frontend: it sees what comes first, and tells when it is closed.
type only struct {
	net.Conn
	once   sync.Once
	closed chan struct{}

	mu    sync.Mutex // guards what follows
	first []byte
}

// Read implements net.Conn.
func (o *only) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	if more := len(preface) - len(o.first); more > 0 {
		o.first = append(o.first, p[:min(n, more)]...)
		if !bytes.HasPrefix([]byte(preface), o.first) {
			return 0, errors.New("no gRPC")
		}
	}
	return n, err
}

// garbage is the error of a peer that began with something else than it should have.
func (o *only) garbage() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if bytes.HasPrefix([]byte(preface), o.first) {
		return nil
	}
	return &GarbageError{Said: bytes.Clone(o.first)}
}

// Close implements net.Conn.
func (o *only) Close() error {
	o.once.Do(func() { close(o.closed) })
	return o.Conn.Close()
}

// listener gives one connection, and ends when that is closed.
type listener struct {
	conn  *only
	given bool
}

// Accept implements net.Listener; it is called by one goroutine.
func (l *listener) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.conn.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (*listener) Close() error { return nil }

// Addr implements net.Listener.
func (*listener) Addr() net.Addr { return &net.UnixAddr{Name: "frontend", Net: "unix"} }
