package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers on a unix socket and counts connections.
func serve(t *testing.T, h http.HandlerFunc) (*Client, *atomic.Int32) {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int32
	srv := &http.Server{Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	c := New(Endpoint{Scheme: "unix", Addr: sock, From: "test"}, Options{Agent: "test"})
	t.Cleanup(func() {
		c.Close()
		srv.Close()
		<-done
	})
	return c, &conns
}

func TestRequestsShareAConnection(t *testing.T) {
	c, conns := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/v" + NewestAPI + "/chunks":
			w.(http.Flusher).Flush()
			fmt.Fprintf(w, `{"A":%q}`, b)
		case "/v" + NewestAPI + "/empty":
			w.WriteHeader(204)
		default:
			fmt.Fprintf(w, `{"A":%q}`, r.Method+r.URL.RawQuery+string(b))
		}
	})
	type answer struct{ A string }
	for range 3 {
		r, err := PostJSON("/chunks", nil, []int{1})
		if err != nil {
			t.Fatal(err)
		}
		if a, err := CallJSON[answer](c, r); err != nil || a.A != "[1]" {
			t.Fatalf("%v %v", a, err)
		}
		if err := c.Call(Post("/empty", nil)); err != nil {
			t.Fatal(err)
		}
		if a, err := CallJSON[answer](c, Get("/x", map[string][]string{"q": {"a b"}})); err != nil || a.A != "GETq=a+b" {
			t.Fatalf("%v %v", a, err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestErrorBodies(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		class  error
		want   Error
	}{
		{404, `{"message":"no x: gone (try: y)","code":"x-gone","what":"no x","cause":"gone","try":"y"}`, errdefs.ErrNotFound, Error{404, fault.Parts{Message: "no x: gone (try: y)", Code: "x-gone", What: "no x", Cause: "gone", Try: "y"}}},
		{409, `{"message":"taken"}`, errdefs.ErrConflict, Error{409, fault.Parts{Message: "taken"}}},
		{500, `plain text`, errdefs.ErrInternal, Error{500, fault.Parts{Message: "plain text"}}},
		{503, ``, errdefs.ErrUnavailable, Error{503, fault.Parts{Message: "the daemon answered with status 503 and no reason"}}},
	} {
		c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			io.WriteString(w, tc.body)
		})
		err := c.Call(Get("/", nil))
		var got *Error
		if !errors.As(err, &got) || *got != tc.want || !errors.Is(err, tc.class) {
			t.Errorf("status %d: %+v", tc.status, err)
		}
	}
}

func TestOlderDaemon(t *testing.T) {
	var paths []string
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		if !strings.HasPrefix(r.URL.Path, "/v1.41/") {
			w.WriteHeader(400)
			io.WriteString(w, `{"message":"client version 1.56 is too new. Maximum supported API version is 1.41"}`)
			return
		}
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	// A body that can be sent once must not be spent on finding the version out.
	resp, err := c.Do(&Request{Method: "POST", Path: "/load", Stream: strings.NewReader("once")})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(b) != "once" {
		t.Fatalf("%q %v", b, err)
	}
	if err := c.Call(Get("/x", nil)); err != nil {
		t.Fatal(err)
	}
	want := "/v1.56/version /v1.41/version /v1.41/load /v1.41/x"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("requests %s, want %s", got, want)
	}
	if c.APIVersion() != "1.41" {
		t.Error(c.APIVersion())
	}
}

func TestStreamBody(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, len(b), bytes.Equal(b, data), err, r.TransferEncoding)
	})
	resp, err := c.Do(&Request{Method: "POST", Path: "/load", Stream: bytes.NewReader(data)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(b) != "1000000 true <nil> [chunked]" || err != nil {
		t.Errorf("%s %v", b, err)
	}
}

// TestKeptConnectionLost closes each connection after its answer without having said so.
func TestKeptConnectionLost(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			conn.Read(buf)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			conn.Close()
		}
	}()
	c := New(Endpoint{Scheme: "unix", Addr: sock}, Options{})
	defer func() {
		c.Close()
		l.Close()
		<-done
	}()
	for range 3 {
		if err := c.Call(Get("/x", nil)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHijack(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1.56/refused" {
			w.WriteHeader(409)
			io.WriteString(w, `{"message":"not running"}`)
			return
		}
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		// The first bytes come with the answer: they must not be lost in a buffer.
		io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello ")
		io.Copy(conn, buf)
	})
	s, err := c.Hijack(Post("/attach", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.Multiplexed {
		t.Error("not multiplexed")
	}
	if _, err := s.Write([]byte("world")); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s.Reader()); string(b) != "hello world" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if _, err := c.Hijack(Post("/refused", nil)); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("refused: %v", err)
	}
}

func TestHeaderInjection(t *testing.T) {
	r := Get("/", nil)
	r.Header = map[string]string{"X": "a\r\nY: b"}
	if _, err := r.appendHead(nil, "", "", false); err == nil {
		t.Error("a line break went into the header")
	}
}
