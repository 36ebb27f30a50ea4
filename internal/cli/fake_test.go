package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fakeDaemon answers requests by "METHOD /path" (without the version) and records them.
type fakeDaemon struct {
	t    *testing.T
	host string

	mu       sync.Mutex // guards what follows
	handlers map[string]http.HandlerFunc
	requests []recorded
}

type recorded struct {
	method, path, query string
	body                []byte
	header              http.Header
}

func newFakeDaemon(t *testing.T) *fakeDaemon {
	t.Helper()
	d := &fakeDaemon{t: t, handlers: map[string]http.HandlerFunc{}}
	sock := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	d.host = "unix://" + sock
	return d
}

func (d *fakeDaemon) on(route string, h http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handlers[route] = h
}

// answer makes a route answer with a status and a JSON body.
func (d *fakeDaemon) answer(route string, status int, body string) {
	d.on(route, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		path = path[1:]
		path = path[strings.IndexByte(path, '/'):]
	}
	w.Header().Set("Api-Version", "1.50")
	w.Header().Set("Ostype", "linux")
	hijacks := r.Header.Get("Upgrade") != ""
	var body []byte
	if !hijacks {
		body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	d.mu.Lock()
	d.requests = append(d.requests, recorded{r.Method, path, r.URL.RawQuery, body, r.Header})
	h := d.handlers[r.Method+" "+path]
	d.mu.Unlock()
	switch {
	case h != nil:
		h(w, r)
	case path == "/_ping":
		io.WriteString(w, "OK")
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(404)
		json.NewEncoder(w).Encode(map[string]string{"message": "page not found: " + path})
	}
}

// seen returns the requests to a route.
func (d *fakeDaemon) seen(route string) []recorded {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []recorded
	for _, r := range d.requests {
		if r.method+" "+r.path == route {
			out = append(out, r)
		}
	}
	return out
}

func (d *fakeDaemon) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = nil
}

// result is what a command line printed and returned.
type result struct {
	out, err string
	code     int
}

// kist runs a command line against the daemon.
func (d *fakeDaemon) kist(args ...string) result {
	return d.kistWith(strings.NewReader(""), nil, args...)
}

func (d *fakeDaemon) kistWith(in io.Reader, env map[string]string, args ...string) result {
	var out, errs bytes.Buffer
	home := d.t.TempDir()
	a := &app{in: in, out: &out, err: &errs, getenv: func(k string) string {
		if v, ok := env[k]; ok {
			return v
		}
		if k == "HOME" {
			return home
		}
		return ""
	}}
	code := a.run(append([]string{"-H", d.host}, args...))
	if a.shared != nil {
		a.shared.Close()
	}
	return result{out.String(), errs.String(), code}
}
