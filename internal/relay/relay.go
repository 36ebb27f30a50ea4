// Package relay stands in for a socket that lives elsewhere: whoever connects to a unix socket here is connected with what a
// function reaches, such as the SSH agent of a client.
package relay

import (
	"io"
	"log/slog"
	"net"
	"sync"
)

// Relay is a listening socket. Close ends it with all its connections.
type Relay struct {
	listener *net.UnixListener
	dial     func() (net.Conn, error)
	wg       sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	closed bool
}

// Serve takes the listener over and connects its callers with what dial reaches.
func Serve(l *net.UnixListener, dial func() (net.Conn, error)) *Relay {
	r := &Relay{listener: l, dial: dial, conns: map[net.Conn]struct{}{}}
	r.wg.Add(1)
	go r.serve()
	return r
}

// Close waits until nothing is connected any more.
func (r *Relay) Close() error {
	err := r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return err
}

func (r *Relay) serve() {
	defer r.wg.Done()
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		if !r.keep(c) {
			return
		}
		r.wg.Add(1)
		go r.connect(c)
	}
}

// keep has the connection closed with the relay.
func (r *Relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close()
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *Relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = c.Close()
	delete(r.conns, c)
}

func (r *Relay) connect(near net.Conn) {
	defer r.wg.Done()
	defer r.drop(near)
	far, err := r.dial()
	if err != nil {
		slog.Warn("relay of a socket", "error", err)
		return
	}
	if !r.keep(far) {
		return
	}
	defer r.drop(far)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(far, near) // either side may go at any time
		if w, ok := far.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
			return
		}
		_ = far.Close()
	})
	_, _ = io.Copy(near, far)
	_ = near.Close()
	wg.Wait()
}
