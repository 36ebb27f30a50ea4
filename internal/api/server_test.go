package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/fault"
)

// fake answers what a test needs; anything else is a nil call and fails the test by the recovered panic's 500.
type fake struct {
	containers
	create func(name string, p *ocispec.Platform, r container.CreateRequest) (container.CreateResponse, error)
	start  func(name string) error
	wait   chan container.WaitResponse
	attach func(o engine.AttachOptions) error
	logs   func(o engine.LogsOptions) error
}

func (f *fake) Create(_ context.Context, name string, p *ocispec.Platform, r container.CreateRequest) (container.CreateResponse, error) {
	return f.create(name, p, r)
}
func (f *fake) Start(_ context.Context, name string) error { return f.start(name) }
func (f *fake) Wait(context.Context, string, container.WaitCondition) (<-chan container.WaitResponse, error) {
	return f.wait, nil
}

func (f *fake) Attach(_ context.Context, _ string, o engine.AttachOptions) error { return f.attach(o) }

func (f *fake) Logs(_ context.Context, _ string, o engine.LogsOptions) error { return f.logs(o) }

func newServer(t *testing.T, f *fake) *Server {
	t.Helper()
	return New(Config{Containers: f, Events: new(event.Bus), Version: "test", Log: slog.New(slog.DiscardHandler)})
}

func do(s *Server, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

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
		body   ErrorBody
	}{
		{nil, 204, ErrorBody{}},
		{fmt.Errorf("No such container: x: %w", errdefs.ErrNotFound), 404, ErrorBody{Message: "No such container: x", Code: "not-found"}},
		{fmt.Errorf("bad: %w", errdefs.ErrInvalidArgument), 400, ErrorBody{Message: "bad", Code: "invalid-request"}},
		{fmt.Errorf("taken: %w", errdefs.ErrConflict), 409, ErrorBody{Message: "taken", Code: "conflict"}},
		{fmt.Errorf("same: %w", errdefs.ErrNotModified), 304, ErrorBody{}},
		{fmt.Errorf("later: %w", errdefs.ErrNotImplemented), 501, ErrorBody{Message: "later", Code: "not-implemented"}},
		{io.ErrUnexpectedEOF, 500, ErrorBody{Message: "unexpected EOF", Code: "internal"}},
		{
			&fault.Error{Code: "port-in-use", What: "cannot publish 80", Cause: "held by nginx", Try: "-p 81:80", Class: errdefs.ErrConflict},
			409,
			ErrorBody{Message: "cannot publish 80: held by nginx (try: -p 81:80)", Code: "port-in-use", What: "cannot publish 80", Cause: "held by nginx", Try: "-p 81:80"},
		},
	} {
		s := newServer(t, &fake{start: func(string) error { return tc.err }})
		w := do(s, http.MethodPost, "/containers/x/start", "")
		var got ErrorBody
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

func TestCreateEvensOutOldShapes(t *testing.T) {
	for _, tc := range []struct {
		name, path, body string
		status           int
		check            func(container.CreateRequest) error
	}{
		{"newest", "/v1.56/containers/create", `{"Image":"a","Cmd":["x","y"]}`, 201, func(r container.CreateRequest) error {
			if r.Image != "a" || len(r.Cmd) != 2 || r.HostConfig == nil {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}},
		{"command as a string", "/v1.24/containers/create", `{"Image":"a","Cmd":"x","Entrypoint":"e"}`, 201, func(r container.CreateRequest) error {
			if len(r.Cmd) != 1 || r.Cmd[0] != "x" || len(r.Entrypoint) != 1 {
				return fmt.Errorf("%+v", r.Config)
			}
			return nil
		}},
		{"MAC of the container", "/v1.40/containers/create", `{"Image":"a","MacAddress":"02:42:ac:11:00:02"}`, 201, func(r container.CreateRequest) error {
			if ep := r.NetworkingConfig.EndpointsConfig["bridge"]; ep == nil || ep.MacAddress.String() != "02:42:ac:11:00:02" {
				return fmt.Errorf("%+v", r.NetworkingConfig)
			}
			return nil
		}},
		{"nothing", "/containers/create", "", 400, nil},
		{"not JSON", "/containers/create", "{", 400, nil},
		{"null", "/containers/create", "null", 400, nil},
		{"wrong type", "/containers/create", `{"Image":7}`, 400, nil},
		{"unknown platform", "/containers/create?platform=a/b/c/d/e", `{"Image":"a"}`, 400, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, &fake{create: func(_ string, _ *ocispec.Platform, r container.CreateRequest) (container.CreateResponse, error) {
				if tc.check == nil {
					t.Error("reached the engine")
				} else if err := tc.check(r); err != nil {
					t.Error(err)
				}
				return container.CreateResponse{ID: "x"}, nil
			}})
			w := do(s, http.MethodPost, tc.path, tc.body)
			if w.Code != tc.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tc.status)
			}
			if w.Code == 201 && !strings.Contains(w.Body.String(), `"Warnings":[]`) {
				t.Errorf("warnings are not a list: %s", w.Body)
			}
		})
	}
}

func FuzzDecodeCreate(f *testing.F) {
	f.Add([]byte(`{"Image":"a","Cmd":"x","HostConfig":{"Memory":-1}}`))
	f.Add([]byte(`{"Cmd":[1]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, err := decodeCreate(newest, raw)
		if err == nil && (req.Config == nil || req.HostConfig == nil) {
			t.Errorf("%q: no error and no config", raw)
		}
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v is not the client's fault", raw, err)
		}
	})
}

// listen serves on a real socket: hijacking and flushing need one.
func listen(t *testing.T, f *fake) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: newServer(t, f), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return path
}

func TestWaitAnswersHeadersAtOnce(t *testing.T) {
	f := &fake{wait: make(chan container.WaitResponse, 1)}
	conn, err := net.Dial("unix", listen(t, f))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1.41/containers/x/wait HTTP/1.1\r\nHost: d\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) // Would hang if the headers waited for the exit.
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	f.wait <- container.WaitResponse{StatusCode: 7}
	var got container.WaitResponse
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.StatusCode != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAttachGivesTheConnectionAway(t *testing.T) {
	for _, upgrade := range []bool{true, false} {
		streams := make(chan engine.Stream, 1)
		f := &fake{attach: func(o engine.AttachOptions) error {
			s, err := o.Hijack(false)
			streams <- s
			return err
		}}
		conn, err := net.Dial("unix", listen(t, f))
		if err != nil {
			t.Fatal(err)
		}
		head, want := "", 200
		if upgrade {
			head, want = "Connection: Upgrade\r\nUpgrade: tcp\r\n", 101
		}
		fmt.Fprintf(conn, "POST /v1.42/containers/x/attach?stdin=1&stream=1 HTTP/1.1\r\nHost: d\r\n%s\r\nearly", head)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || resp.Header.Get("Content-Type") != multiplexedStream {
			t.Errorf("upgrade %v: %d %v", upgrade, resp.StatusCode, resp.Header)
		}
		s := <-streams
		if _, err := s.File.Write([]byte("out")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "out" {
			t.Errorf("read %q, %v", got, err)
		}
		rest := make([]byte, 16)
		early := string(s.Pending)
		if early == "" {
			n, _ := s.File.Read(rest)
			early = string(rest[:n])
		}
		if early != "early" {
			t.Errorf("what the client sent ahead: %q", early)
		}
		s.File.Close()
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("the connection stays open when its new owner closes it: %v", err)
		}
		conn.Close()
	}
}

// A body before the stream is none of it: dockerode repeats its query there, or sends one in no chunks.
func TestStreamBeginsAfterTheBody(t *testing.T) {
	for head, body := range map[string]string{
		"Content-Length: 15":         `{"stream":true}`,
		"Transfer-Encoding: chunked": "0\r\n\r\n",
		"Content-Length: 0":          "",
	} {
		streams := make(chan engine.Stream, 1)
		conn, err := net.Dial("unix", listen(t, &fake{attach: func(o engine.AttachOptions) error {
			s, err := o.Hijack(false)
			streams <- s
			return err
		}}))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1.42/containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n%s\r\n\r\n%sfirst", head, body)
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
		s := <-streams
		if string(s.Pending) != "first" {
			t.Errorf("%s: the stream begins with %q", head, s.Pending)
		}
		_ = s.File.Close()
		_ = conn.Close()
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

// A client may throw away what it reads together with the head of the answer: nothing comes before it has read that.
func TestOutputComesAfterTheHead(t *testing.T) {
	for _, agent := range []string{"docker-sdk-python/7", "kist/1"} {
		f := &fake{attach: func(o engine.AttachOptions) error {
			s, err := o.Hijack(false)
			if err == nil {
				_, err = s.File.WriteString("output")
				_ = s.File.Close()
			}
			return err
		}}
		conn, err := net.Dial("unix", listen(t, f))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\nUser-Agent: %s\r\n\r\n", agent)
		first := make([]byte, 8192)
		if n, err := conn.Read(first[:1]); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		time.Sleep(50 * time.Millisecond) // what could come has come
		n, err := conn.Read(first)
		if err != nil {
			t.Fatal(err)
		}
		if glued := strings.Contains(string(first[:n]), "output"); glued != (agent == "kist/1") {
			t.Errorf("%s: the head came with the output: %v: %q", agent, glued, first[:n])
		}
		conn.Close()
	}
}

func TestLogsOptions(t *testing.T) {
	var got engine.LogsOptions
	s := newServer(t, &fake{logs: func(o engine.LogsOptions) error {
		got = o
		w, err := o.Begin(true)
		if err == nil {
			_, err = io.WriteString(w, "line\n")
		}
		return err
	}})
	w := do(s, http.MethodGet, "/v1.41/containers/x/logs?stdout=1&tail=5&since=1700000000.5&timestamps=1", "")
	if w.Code != 200 || w.Body.String() != "line\n" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
	if !got.Stdout || got.Stderr || got.Tail != 5 || !got.Timestamps || got.Since.UnixNano() != 1700000000500000000 {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"", "?stdout=1&since=yesterday"} {
		if w := do(s, http.MethodGet, "/containers/x/logs"+bad, ""); w.Code != 400 {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
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

// TestCreateAsOf: a request means what it meant in its version.
func TestCreateAsOf(t *testing.T) {
	body := func(host string) string { return `{"Image":"a","HostConfig":{` + host + `}}` }
	for _, tc := range []struct {
		v     version
		body  string
		fault string
		check func(h *container.HostConfig) bool
	}{
		{24, body(""), "", func(h *container.HostConfig) bool { return h.IpcMode == "shareable" }},
		{40, body(""), "", func(h *container.HostConfig) bool { return h.IpcMode == "" }},
		{40, body(`"PidsLimit":0`), "", func(h *container.HostConfig) bool { return h.PidsLimit == nil }},
		{41, body(`"PidsLimit":0`), "", func(h *container.HostConfig) bool { return h.PidsLimit != nil }},
		{42, body(`"Annotations":{"a":"b"}`), "", func(h *container.HostConfig) bool { return h.Annotations == nil }},
		{43, body(`"Annotations":{"a":"b"}`), "", func(h *container.HostConfig) bool { return h.Annotations["a"] == "b" }},
		{41, body(`"Mounts":[{"Type":"volume","Target":"/x","BindOptions":{"Propagation":"shared"}}]`), "", func(h *container.HostConfig) bool { return h.Mounts[0].BindOptions == nil }},
		{43, body(`"Mounts":[{"Type":"bind","Source":"/a","Target":"/x","ReadOnly":true}]`), "", func(h *container.HostConfig) bool { return h.Mounts[0].BindOptions.ReadOnlyNonRecursive }},
		{44, body(`"Mounts":[{"Type":"bind","Source":"/a","Target":"/x","ReadOnly":true}]`), "", func(h *container.HostConfig) bool { return h.Mounts[0].BindOptions == nil }},
		{43, body(`"Mounts":[{"Type":"bind","BindOptions":{"ReadOnlyForceRecursive":true}}]`), "needs API v1.44", nil},
		{44, body(`"Mounts":[{"Type":"volume","VolumeOptions":{"Subpath":"x"}}]`), "needs API v1.45", nil},
		{47, body(`"Mounts":[{"Type":"image"}]`), "needs API v1.48", nil},
		{55, body(`"Umask":18`), "", func(h *container.HostConfig) bool { return h.Umask == nil }},
		{43, `{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}`, "multiple network endpoints", nil},
		{56, body(`"Ulimits":[null]`), "null in a list", nil},
	} {
		req, err := decodeCreate(tc.v, []byte(tc.body))
		switch {
		case tc.fault == "" && err != nil, tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)):
			t.Errorf("v%s %s: %v, want %q", tc.v, tc.body, err, tc.fault)
		case tc.check != nil && !tc.check(req.HostConfig):
			t.Errorf("v%s %s: %+v", tc.v, tc.body, req.HostConfig)
		}
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
