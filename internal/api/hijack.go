package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/sys"
)

// Media types of taken-over connections; the second one since API 1.42.
const (
	rawStream         = "application/vnd.docker.raw-stream"
	multiplexedStream = "application/vnd.docker.multiplexed-stream"
)

func streamType(v version, tty bool) string {
	if v >= 42 && !tty {
		return multiplexedStream
	}
	return rawStream
}

// hijack takes the connection over from HTTP: it answers with 101 if the client asked for an upgrade, else with docker's
// older 200, and gives the connection away as a descriptor.
func hijack(w http.ResponseWriter, r *request) func(tty bool) (engine.Stream, error) {
	return func(tty bool) (engine.Stream, error) {
		if err := finishBody(r.Request); err != nil {
			return engine.Stream{}, err
		}
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return engine.Stream{}, fmt.Errorf("take the connection over: %w", err)
		}
		if t, ok := w.(*tracker); ok {
			t.began = true
		}
		status := "200 OK"
		upgrade := ""
		if r.Header.Get("Upgrade") != "" {
			status, upgrade = "101 UPGRADED", "Connection: Upgrade\r\nUpgrade: tcp\r\n"
		}
		var head strings.Builder
		fmt.Fprintf(&head, "HTTP/1.1 %s\r\nContent-Type: %s\r\n%s", status, streamType(r.version, tty), upgrade)
		head.WriteString("Api-Version: " + newest.String() + "\r\n\r\n")
		pending, err := answer(conn, head.String(), buf.Reader)
		if err != nil {
			return engine.Stream{}, errors.Join(err, conn.Close())
		}
		if !strings.HasPrefix(r.UserAgent(), ownAgent) {
			awaitRead(conn)
		}
		file, err := descriptor(conn)
		if err != nil {
			return engine.Stream{}, errors.Join(err, conn.Close())
		}
		if slices.Contains(r.TransferEncoding, "chunked") {
			pending = bytes.TrimPrefix(bytes.TrimPrefix(pending, []byte("\r\n")), []byte("0\r\n\r\n"))
		}
		return engine.Stream{File: file, Pending: pending}, nil
	}
}

// bodyMax bounds the bodies of requests whose connection becomes a stream.
const bodyMax = 1 << 20

// finishBody reads what is left of a body whose length is known, so that the stream does not begin with it: dockerode repeats
// its query there, others end theirs with a newline. A body in chunks may be meant to stay open.
func finishBody(r *http.Request) error {
	if r.ContentLength <= 0 {
		return nil
	}
	if r.ContentLength > bodyMax {
		return fmt.Errorf("a body of %d bytes before a stream: %w", r.ContentLength, errdefs.ErrInvalidArgument)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return fmt.Errorf("read the request's body: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// ownAgent begins the User-Agent of kist's own client, which loses nothing.
const ownAgent = "kist/"

// headWithin bounds the wait for a client that does not read.
const headWithin = time.Second

// awaitRead waits until the client has read the head of the answer. Docker's Python client, and others, read it through a buffer
// that they throw away, with whatever of the output came together with the head: other engines are too slow for that.
func awaitRead(conn net.Conn) {
	c, ok := conn.(*net.UnixConn) // Over TCP what is acknowledged may still be unread.
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	until := time.Now().Add(headWithin)
	for pause := 20 * time.Microsecond; time.Now().Before(until); pause = min(2*pause, 5*time.Millisecond) {
		unread := 0
		err := raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if err != nil || unread == 0 {
			return
		}
		time.Sleep(pause)
	}
}

// answer writes the head and returns what the client sent ahead of it.
func answer(conn net.Conn, head string, r interface {
	io.Reader
	Buffered() int
},
) ([]byte, error) {
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, fmt.Errorf("answer the upgrade: %w", err)
	}
	if r.Buffered() == 0 {
		return nil, nil
	}
	pending := make([]byte, r.Buffered())
	_, err := io.ReadFull(r, pending)
	return pending, err
}

// descriptor turns a connection into a descriptor that another process can use. A plain socket is duplicated; anything
// else (TLS) is copied to one half of a socket pair for as long as it lives.
func descriptor(conn net.Conn) (*os.File, error) {
	if c, ok := conn.(interface{ File() (*os.File, error) }); ok {
		f, err := c.File()
		if err != nil {
			return nil, fmt.Errorf("duplicate the connection: %w", err)
		}
		return f, conn.Close()
	}
	near, far, err := sys.SocketPair()
	if err != nil {
		return nil, err
	}
	go relay(conn, near)
	return far, nil
}

// relay copies both ways until both directions have ended, passing half-closes on.
func relay(far, near net.Conn) {
	var wg sync.WaitGroup
	pipe := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src) // Either side may end it; there is nobody to tell.
		if c, ok := dst.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
	}
	wg.Go(func() { pipe(near, far) })
	wg.Go(func() { pipe(far, near); _ = far.Close() })
	wg.Wait()
	_ = near.Close()
}
