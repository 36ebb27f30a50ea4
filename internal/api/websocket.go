package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/net/websocket"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/sys"
)

// containerAttachWS is attach for clients that speak WebSocket. What they get is never multiplexed. Versions before 1.42 take
// no notice of which streams are asked for.
func (s *Server) containerAttachWS(w http.ResponseWriter, r *request) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return fmt.Errorf("attach over WebSocket: the request has no header Upgrade: websocket: %w", errdefs.ErrInvalidArgument)
	}
	old := r.version < 42
	return s.Containers.Attach(r.Context(), r.PathValue("id"), engine.AttachOptions{
		Stdin: old || r.boolean("stdin"), Stdout: old || r.boolean("stdout"), Stderr: old || r.boolean("stderr"),
		Logs: r.boolean("logs"), Stream: r.boolean("stream"), DetachKeys: r.query().Get("detachKeys"),
		Raw: true, Hijack: webSocket(w, r),
	})
}

// errAnswered says that the client has been told what is wrong.
var errAnswered = errors.New("the client has been told")

// hijackable gives x/net's server the connection through whatever wraps the answer.
type hijackable struct{ http.ResponseWriter }

// Hijack takes the connection over from HTTP.
func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(h.ResponseWriter).Hijack()
}

// webSocket answers the upgrade, and copies between the messages and one half of a socket pair for as long as the connection
// lives. The other half is the stream.
func webSocket(w http.ResponseWriter, r *request) func(tty bool) (engine.Stream, error) {
	return func(bool) (engine.Stream, error) {
		near, stream, err := sys.SocketPair()
		if err != nil {
			return engine.Stream{}, err
		}
		if t, ok := w.(*tracker); ok {
			t.began = true
		}
		opened, over := make(chan struct{}), make(chan struct{})
		server := websocket.Server{Handler: func(c *websocket.Conn) {
			if r.version >= 28 {
				c.PayloadType = websocket.BinaryFrame
			}
			close(opened)
			relayMessages(c, near)
		}}
		go func() {
			defer close(over)
			server.ServeHTTP(hijackable{w}, r.Request)
		}()
		select {
		case <-opened:
			return engine.Stream{File: stream}, nil
		case <-over: // It has answered what is wrong with the handshake.
			return engine.Stream{}, errors.Join(errAnswered, near.Close(), stream.Close())
		}
	}
}

// relayMessages copies both ways until either side has ended. A WebSocket cannot be closed by half.
func relayMessages(far *websocket.Conn, near net.Conn) {
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(near, far) // Either side may end it; there is nobody to tell.
		_ = near.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})
	both.Wait()
}
