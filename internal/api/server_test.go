package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/fault"
)

func TestVersions(t *testing.T) {
	s := newServer(t, &fake{})
	for _, tc := range []struct {
		path   string
		status int
		body   string
	}{
		{"/_ping", 200, "OK"},
		{"/v1.24/_ping", 200, "OK"},
		{"/v1.56/_ping", 200, "OK"},
		{"/v1.23/_ping", 400, "too old"},
		{"/v1.99/_ping", 400, "too new"},
		{"/v2.0/_ping", 400, "too new"},
		{"/vfoo/_ping", 404, "page not found"},
		{"/nothing", 404, "page not found"},
		{"/v1.40/swarm", 503, "not a swarm manager"},
		{"/v1.40/plugins", 200, "[]"},
		{"/v1.40/images/a/b/nothing", 404, "page not found"},
	} {
		w := do(s, http.MethodGet, tc.path, "")
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) {
			t.Errorf("GET %s = %d %q, want %d with %q", tc.path, w.Code, w.Body, tc.status, tc.body)
		}
		if got := w.Header().Get("Api-Version"); got != newest.String() {
			t.Errorf("GET %s: Api-Version %q", tc.path, got)
		}
	}
	if w := do(s, http.MethodHead, "/_ping", ""); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD /_ping = %d %q", w.Code, w.Body)
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		body   fault.Parts
	}{
		{nil, 204, fault.Parts{}},
		{fmt.Errorf("No such container: x: %w", errdefs.ErrNotFound), 404, fault.Parts{Message: "No such container: x", Code: "not-found"}},
		{fmt.Errorf("bad: %w", errdefs.ErrInvalidArgument), 400, fault.Parts{Message: "bad", Code: "invalid-request"}},
		{fmt.Errorf("taken: %w", errdefs.ErrConflict), 409, fault.Parts{Message: "taken", Code: "conflict"}},
		{fmt.Errorf("same: %w", errdefs.ErrNotModified), 304, fault.Parts{}},
		{fmt.Errorf("later: %w", errdefs.ErrNotImplemented), 501, fault.Parts{Message: "later", Code: "not-implemented"}},
		{io.ErrUnexpectedEOF, 500, fault.Parts{Message: "unexpected EOF", Code: "internal"}},
		{
			&fault.Error{Code: "port-in-use", What: "cannot publish 80", Cause: "held by nginx", Try: "-p 81:80", Class: errdefs.ErrConflict},
			409,
			fault.Parts{Message: "cannot publish 80: held by nginx (try: -p 81:80)", Code: "port-in-use", What: "cannot publish 80", Cause: "held by nginx", Try: "-p 81:80"},
		},
	} {
		s := newServer(t, &fake{start: func(string) error { return tc.err }})
		w := do(s, http.MethodPost, "/containers/x/start", "")
		var got fault.Parts
		_ = json.Unmarshal(w.Body.Bytes(), &got)
		if w.Code != tc.status || got != tc.body {
			t.Errorf("%v: %d %+v, want %d %+v", tc.err, w.Code, got, tc.status, tc.body)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	s := newServer(t, &fake{start: func(string) error { panic("boom") }})
	if w := do(s, http.MethodPost, "/containers/x/start", ""); w.Code != 500 || !strings.Contains(w.Body.String(), "boom") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Clients that take whatever version they are told are told one that they know.
func TestVersionForClients(t *testing.T) {
	for agent, want := range map[string]string{
		"docker-sdk-python/5.0.3":                          "1.51",
		"docker-sdk-python/7.1.0":                          "1.51",
		"docker-sdk-python/8.0.0":                          newest.String(),
		"docker-compose/1.29.2 docker-py/5.0.3 Linux/6.18": "1.44",
		"docker-compose/2.1.0":                             newest.String(),
		"Docker-Client/29.9.3 (linux)":                     newest.String(),
		"":                                                 newest.String(),
	} {
		r := httptest.NewRequest(http.MethodGet, "/version", nil)
		r.Header.Set("User-Agent", agent)
		w := httptest.NewRecorder()
		newServer(t, &fake{}).ServeHTTP(w, r)
		var got struct{ ApiVersion string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.ApiVersion != want {
			t.Errorf("%q: %q, %v; want %s", agent, got.ApiVersion, err, want)
		}
	}
}

func TestEvents(t *testing.T) {
	s := newServer(t, &fake{})
	s.Events.Emit(events.ContainerEventType, "start", "abc", map[string]string{"name": "web", "image": "img", "l": "v"})
	s.Events.Emit(events.ImageEventType, "pull", "img", map[string]string{"name": "img"})
	now := fmt.Sprint(time.Now().Unix() + 1)
	for _, tc := range []struct {
		query string
		want  int
	}{
		{"", 2},
		{`&filters={"type":{"image":true}}`, 1},
		{`&filters={"container":{"web":true}}`, 1},
		{`&filters={"container":{"ab":true}}`, 1},
		{`&filters={"container":{"other":true}}`, 0},
		{`&filters={"container":{"eb":true}}`, 0},
		{`&filters={"network":{"web":true}}`, 0},
		{`&filters={"event":{"star":true}}`, 0},
		{`&filters={"nosuch":["x"]}`, 2},
		{`&filters={"event":["start"]}`, 1},
		{`&filters={"label":["l=v"]}`, 1},
		{`&filters={"label":["l=w"]}`, 0},
		{`&filters={"image":["img"]}`, 2},
	} {
		w := do(s, http.MethodGet, "/v1.41/events?since=1&until="+now+strings.ReplaceAll(tc.query, `"`, "%22"), "")
		if got := strings.Count(w.Body.String(), "\n"); got != tc.want {
			t.Errorf("%s: %d events, want %d: %s", tc.query, got, tc.want, w.Body)
		}
		if tc.query == "" && !strings.Contains(w.Body.String(), `"status":"start","id":"abc","from":"img"`) {
			t.Errorf("API 1.41 has no old fields: %s", w.Body)
		}
	}
	for _, bad := range []string{`filters={"type":7}`, "since=yesterday", "since=20&until=10"} {
		if w := do(s, http.MethodGet, "/events?"+strings.ReplaceAll(bad, `"`, "%22"), ""); w.Code != 400 {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
}

func TestBar(t *testing.T) {
	if got, want := bar(5, 10), "["+strings.Repeat("=", 25)+">"+strings.Repeat(" ", 25)+"]  5B/10B"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRights: each right is that of a route, and what the method says changes something is no reading.
func TestRights(t *testing.T) {
	s := newServer(t, &fake{})
	for pattern, can := range rights {
		if !slices.Contains(s.patterns, pattern) {
			t.Errorf("%s: no such route", pattern)
		}
		method, _, _ := strings.Cut(pattern, " ")
		changes := method == http.MethodPost || method == http.MethodPut || method == http.MethodDelete
		if changes && can.reads != nil && pattern != "POST /containers/{id}/wait" && pattern != "POST /containers/{id}/attach" {
			t.Errorf("%s is said to read only", pattern)
		}
	}
}

// TestOrigin: a browser's request from another site's page is refused.
func TestOrigin(t *testing.T) {
	s := newServer(t, &fake{})
	for origin, status := range map[string]int{"": 200, "http://example.com": 200, "http://example.com:80": 403, "https://elsewhere": 403, "null": 403, "::": 403} {
		r := httptest.NewRequest(http.MethodGet, "http://example.com/_ping", nil)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%q: %d, want %d", origin, w.Code, status)
		}
		w = httptest.NewRecorder()
		s.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "x", Net: "unix"})))
		if w.Code != 200 {
			t.Errorf("%q on a unix socket: %d", origin, w.Code)
		}
	}
}
