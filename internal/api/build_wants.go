package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/buildmsg"
)

// wantPatience is how long a client has to give what a build wants. Credentials may need a person.
const wantPatience = time.Minute

// wants are what builds under way have asked their clients for, by id.
type wants struct {
	mu   sync.Mutex // guards byID
	byID map[string]chan net.Conn
}

// ask sends a want and waits for the client's stream.
func (ws *wants) ask(ctx context.Context, out *buildStream, w buildmsg.Want) (net.Conn, error) {
	w.ID = rand.Text() // Nobody but the client shall be able to answer.
	ch := make(chan net.Conn, 1)
	ws.mu.Lock()
	if ws.byID == nil {
		ws.byID = map[string]chan net.Conn{}
	}
	ws.byID[w.ID] = ch
	ws.mu.Unlock()
	defer func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		delete(ws.byID, w.ID)
		select {
		case late := <-ch:
			_ = late.Close()
		default:
		}
	}()
	out.want(&w)
	timeout := time.NewTimer(wantPatience)
	defer timeout.Stop()
	select {
	case conn := <-ch:
		return &bound{Conn: conn, stop: context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timeout.C:
		return nil, fmt.Errorf("the client does not give %s %s: %w", w.Kind, w.Name, errdefs.ErrUnavailable)
	}
}

// bound is a stream that ends with the build.
type bound struct {
	net.Conn
	stop func() bool
}

// Close implements net.Conn.
func (b *bound) Close() error {
	b.stop()
	return b.Conn.Close()
}

// CloseWrite ends what is sent.
func (b *bound) CloseWrite() error {
	if c, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// give hands a stream to the build that wants it.
func (ws *wants) give(id string, conn net.Conn) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ch, ok := ws.byID[id]
	if !ok {
		return false
	}
	delete(ws.byID, id)
	ch <- conn
	return true
}

// known says that something of that id is wanted.
func (ws *wants) known(id string) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	_, ok := ws.byID[id]
	return ok
}

// buildGive takes what a build wants of its client.
func (s *Server) buildGive(w http.ResponseWriter, r *request) error {
	id := r.query().Get("want")
	if !s.wants.known(id) {
		return fmt.Errorf("no build wants that: %w", errdefs.ErrNotFound)
	}
	conn, err := takeOver(w, r, "tcp")
	if err != nil {
		return err
	}
	if !s.wants.give(id, conn) {
		return conn.Close()
	}
	return nil
}

// output is a stream to the client. Closing it waits until the client has written everything.
type output struct {
	net.Conn
	abort bool
}

// Close says that the output is whole, and waits for the client to say the same.
func (o *output) Close() error {
	if o.abort {
		return o.Conn.Close()
	}
	defer o.Conn.Close()
	c, ok := o.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("output: %T cannot be ended", o.Conn)
	}
	if err := c.CloseWrite(); err != nil {
		return fmt.Errorf("end the output: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(o.Conn, 64))
	if err != nil {
		return fmt.Errorf("end the output: %w", err)
	}
	if string(answer) != "ok" {
		return fmt.Errorf("the client could not write the output: %w", errdefs.ErrAborted)
	}
	return nil
}

// Abort drops the output.
func (o *output) Abort() error {
	o.abort = true
	return o.Conn.Close()
}
