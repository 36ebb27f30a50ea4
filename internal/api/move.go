package api

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/movemsg"
)

// mover is what the API needs of the part that moves things.
type mover interface {
	// Send moves something to the daemon at the other end of the connection; the last line has the result or the failure.
	Send(ctx context.Context, req *movemsg.Request, conn io.ReadWriter, report func(movemsg.Line))
	// Receive takes in what the daemon at the other end sends.
	Receive(ctx context.Context, conn io.ReadWriter) error
}

func (s *Server) routeMove() {
	// Not docker's: two daemons that talk over connections which a client joins.
	s.handle("POST /kist/move/send", s.moveSend)
	s.handle("POST /kist/move/receive", s.moveReceive)
}

func (s *Server) moveSend(w http.ResponseWriter, r *request) error {
	req := new(movemsg.Request)
	if err := json.Unmarshal([]byte(r.query().Get("request")), req); err != nil {
		return fmt.Errorf("invalid JSON in the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	conn, rest, err := s.takeOver(w, multiplexedStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	f := &moveFrames{conn: conn, rest: rest}
	// The request's context says nothing of a connection that was taken over: its end is seen where it is read.
	s.Mover.Send(context.WithoutCancel(r.Context()), req, f, f.report)
	return nil
}

func (s *Server) moveReceive(w http.ResponseWriter, r *request) error {
	conn, rest, err := s.takeOver(w, rawStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = s.Mover.Receive(context.WithoutCancel(r.Context()), &restConn{conn, rest})
	if err != nil {
		s.Log.Warn("what was being moved here did not arrive", "error", err)
	}
	return nil
}

// takeOver makes a connection one of raw bytes. What the client has sent already is in the reader.
func (s *Server) takeOver(w http.ResponseWriter, contentType string) (net.Conn, io.Reader, error) {
	if s.Mover == nil {
		return nil, nil, fmt.Errorf("this daemon moves nothing: %w", errdefs.ErrNotImplemented)
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take the connection over: %w", err)
	}
	if t, ok := w.(*tracker); ok {
		t.began = true
	}
	head := "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" +
		"Api-Version: " + newest.String() + "\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("answer the upgrade: %w", err), conn.Close())
	}
	return conn, buf.Reader, nil
}

// restConn reads what came ahead of the connection first.
type restConn struct {
	net.Conn
	rest io.Reader
}

func (c *restConn) Read(p []byte) (int, error) { return c.rest.Read(p) }

// moveFrames sends for the other daemon as standard output, and for the person as standard error.
type moveFrames struct {
	conn net.Conn
	rest io.Reader
	mu   sync.Mutex // one frame at a time
}

func (f *moveFrames) Read(p []byte) (int, error) { return f.rest.Read(p) }

func (f *moveFrames) Write(p []byte) (int, error) {
	if err := f.write(1, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *moveFrames) write(stream byte, p []byte) error {
	var head [8]byte
	head[0] = stream
	binary.BigEndian.PutUint32(head[4:], uint32(len(p)))
	f.mu.Lock()
	defer f.mu.Unlock()
	bufs := net.Buffers{head[:], p}
	_, err := bufs.WriteTo(f.conn)
	return err
}

func (f *moveFrames) report(l movemsg.Line) {
	raw, err := json.Marshal(l)
	if err != nil {
		return
	}
	_ = f.write(2, append(raw, '\n')) // A client that is gone ends the move in another way.
}
