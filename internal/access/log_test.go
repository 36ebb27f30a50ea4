package access

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func read(t *testing.T, path string) (calls []Call) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var c Call
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			t.Fatalf("%v: %s", err, s.Text())
		}
		calls = append(calls, c)
	}
	return calls
}

// TestHandler asks over a socket, and looks who is said to have asked.
func TestHandler(t *testing.T) {
	for _, all := range []bool{false, true} {
		dir := t.TempDir()
		l, err := Open(Options{Path: filepath.Join(dir, "log")})
		if err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(dir, "s")
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ReadHeaderTimeout: time.Minute, ConnContext: WithPeer, BaseContext: func(net.Listener) context.Context { return WithSocket(context.Background(), socket) }, Handler: l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/attach") {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 101 X\r\n\r\n")
				_ = conn.Close()
				return
			}
			w.WriteHeader(http.StatusConflict)
		}), all)}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(listener) }()
		for _, line := range []string{
			"GET /info", "POST /containers/x/wait", "POST /v1.41/containers/create?name=web&secret=1", "DELETE /volumes/x?force=1",
			"POST /containers/x/attach",
		} {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", line)
			if _, err := io.ReadAll(conn); err != nil {
				t.Error(err)
			}
			_ = conn.Close()
		}
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-done
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l.Note(nil, Call{}) // Too late: nothing happens.
		calls := read(t, filepath.Join(dir, "log"))
		if want := map[bool]int{false: 3, true: 5}[all]; len(calls) != want {
			t.Fatalf("all %v: %d calls, want %d: %+v", all, len(calls), want, calls)
		}
		program, _ := os.ReadFile("/proc/self/comm")
		for _, c := range calls {
			if c.UID == nil || int(*c.UID) != os.Getuid() || int(c.PID) != os.Getpid() || c.Program != strings.TrimSpace(string(program)) ||
				c.Socket != socket || c.Time.IsZero() {
				t.Errorf("%+v", c)
			}
			switch {
			case strings.HasSuffix(c.Path, "/attach"):
				if c.Status != http.StatusSwitchingProtocols {
					t.Errorf("attach: status %d", c.Status)
				}
			case c.Status != http.StatusConflict:
				t.Errorf("%s: status %d", c.Path, c.Status)
			}
			if strings.HasSuffix(c.Path, "/create") && (c.Names["name"] != "web" || len(c.Names) != 1) {
				t.Errorf("names %v", c.Names)
			}
		}
	}
}

// TestRotation writes more than fits.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for range 2 { // The second one goes on with the first one's file.
		l, err := Open(Options{Path: path, MaxSize: 1000, MaxFiles: 3})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			l.Note(nil, Call{Path: fmt.Sprint("/", i)})
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.Size() > 1000 || fi.Size() == 0 {
			t.Errorf("%s: %d bytes, %v", f, fi.Size(), err)
		}
	}
	if last := read(t, path); last[len(last)-1].Path != "/49" {
		t.Errorf("the last line is %+v", last[len(last)-1])
	}
}

// BenchmarkHandler is what a noted call costs its caller more than one that is not.
func BenchmarkHandler(b *testing.B) {
	l, err := Open(Options{Path: filepath.Join(b.TempDir(), "log")})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for name, h := range map[string]http.Handler{"noted": l.Handler(plain, false), "plain": plain} {
		b.Run(name, func(b *testing.B) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			for b.Loop() {
				r := httptest.NewRequestWithContext(WithPeer(WithSocket(context.Background(), "s"), near), http.MethodPost, "/containers/x/start", nil)
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
