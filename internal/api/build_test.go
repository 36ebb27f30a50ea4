package api

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	dockerbuild "github.com/moby/moby/api/types/build"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/buildmsg"
	clientpkg "github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/testbed"
)

// fakeMaker runs a function as a build, and is BuildKit's protocol of a daemon that nobody speaks it with.
type fakeMaker struct {
	buildKit
	solve   func(ctx context.Context, r build.Request, status build.Status) (*build.Response, error)
	records []build.Record
	pruned  build.PruneOptions
	sent    int64
}

func (f *fakeMaker) Solve(ctx context.Context, r build.Request, status build.Status) (*build.Response, error) {
	return f.solve(ctx, r, status)
}

func (f *fakeMaker) Usage(context.Context, []string) ([]build.Record, error) { return f.records, nil }

func (f *fakeMaker) Prune(_ context.Context, o build.PruneOptions, report func(build.Record)) (int64, error) {
	f.pruned = o
	for _, r := range f.records {
		report(r)
	}
	return 10, nil
}

// fakeKit is BuildKit's side of what the API needs.
type fakeKit struct {
	buildKit
	sent int64
}

func (k *fakeKit) Usage() int64 { return k.sent }

func (k *fakeKit) Prune(context.Context) (int64, error) {
	n := k.sent
	k.sent = 0
	return n, nil
}

// daemon serves a builder on a socket.
func daemon(t *testing.T, f *fakeMaker) (*Server, *clientpkg.Client) {
	t.Helper()
	s := New(Config{
		Events: new(event.Bus), Version: "test", Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Builder: f, BuildKit: &fakeKit{sent: f.sent}, BuildDir: t.TempDir(),
		HostGateway: func() string { return "172.17.0.1" },
	})
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	cl := clientpkg.New(clientpkg.Endpoint{Scheme: "tcp", Addr: srv.Listener.Addr().String()}, clientpkg.Options{})
	t.Cleanup(cl.Close)
	return s, cl
}

// run posts a build and answers what it wants.
func run(t *testing.T, cl *clientpkg.Client, req *buildmsg.Request, give func(w *buildmsg.Want, s *clientpkg.Stream)) []buildmsg.Message {
	t.Helper()
	r, err := clientpkg.PostJSON("/kist/build", nil, req)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := cl.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []buildmsg.Message
	for dec := json.NewDecoder(resp.Body); ; {
		var m buildmsg.Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if m.Want != nil {
			s, err := cl.Hijack(clientpkg.Post("/kist/build/give", map[string][]string{"want": {m.Want.ID}}))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer s.Close()
				give(m.Want, s)
			}()
		}
		all = append(all, m)
	}
}

func last(list []buildmsg.Message) buildmsg.Message {
	if len(list) == 0 {
		return buildmsg.Message{}
	}
	return list[len(list)-1]
}

// dirOf describes a directory as a client on this machine does.
func dirOf(t *testing.T, path string) *buildmsg.Dir {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return &buildmsg.Dir{Path: path, Dev: st.Dev, Ino: st.Ino}
}

func TestBuildOptions(t *testing.T) {
	r := &buildmsg.Request{
		Context: buildmsg.Source{Dir: &buildmsg.Dir{Path: "/x"}}, Contexts: map[string]buildmsg.Source{"lib": {Dir: &buildmsg.Dir{Path: "/l"}}, "base": {Ref: "docker-image://alpine"}},
		Dockerfile: "D", Args: map[string]string{"A": "1"}, Labels: map[string]string{"l": "x"}, Target: "t", Platforms: []string{"linux/amd64", "linux/arm64"},
		NoCacheFilter: []string{"a", "b"}, Network: "host", AddHosts: []string{"h:1.2.3.4", "g:host-gateway", "six=[::1]"}, ShmSize: 64, Ulimits: []string{"nofile=1:2"},
		CgroupParent: "/p", Attests: map[string]string{"provenance": "mode=max"}, Call: "frontend.lint", Allow: []string{"security.insecure"},
	}
	attrs, grants, err := buildOptions(r, "172.17.0.1")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"image-resolve-mode": "local", "target": "t", "filename": "D", "platform": "linux/amd64,linux/arm64", "multi-platform": "true", "cgroup-parent": "/p",
		"ulimit": "nofile=1:2", "no-cache": "a,b", "shm-size": "64", "build-arg:A": "1", "label:l": "x", "attest:provenance": "mode=max",
		"force-network-mode": "host", "add-hosts": "h=1.2.3.4,g=172.17.0.1,six=::1", "requestid": "frontend.lint",
		"frontend.caps": "moby.buildkit.frontend.subrequests", "context:lib": "local:named-lib", "context:base": "docker-image://alpine",
	}
	if diff := cmp.Diff(want, attrs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"security.insecure", "network.host"}, grants); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []*buildmsg.Request{{Network: "mynet"}, {AddHosts: []string{"h"}}, {AddHosts: []string{":1"}}} {
		if _, _, err := buildOptions(bad, ""); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, _, err := buildOptions(&buildmsg.Request{AddHosts: []string{"g:host-gateway"}}, ""); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("host-gateway without a bridge: %v", err)
	}
}

func TestBuildInPlace(t *testing.T) {
	dir := t.TempDir()
	f := &fakeMaker{solve: func(ctx context.Context, r build.Request, status build.Status) (*build.Response, error) {
		d, err := r.Session.Local(ctx, "context", build.LocalOptions{})
		if err != nil {
			return nil, err
		}
		defer d.Release()
		if d.Dir != dir || !d.InPlace {
			return nil, fmt.Errorf("the context is %+v", d)
		}
		text, err := r.Session.Local(ctx, "dockerfile", build.LocalOptions{})
		if err != nil {
			return nil, err
		}
		if raw, err := os.ReadFile(filepath.Join(text.Dir, "Dockerfile")); string(raw) != "FROM scratch" {
			return nil, fmt.Errorf("the Dockerfile is %q: %w", raw, err)
		}
		if s, err := r.Session.Secret(ctx, "a"); string(s) != "s3cret" {
			return nil, fmt.Errorf("the secret is %q: %w", s, err)
		}
		now := time.Now()
		for i := range 100 {
			status(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString(fmt.Sprint(i)), Name: fmt.Sprint(i), Started: &now}}})
		}
		return &build.Response{
			Exporter: map[string]string{"containerimage.config.digest": "sha256:id", "containerimage.digest": "sha256:manifest"},
			Summary:  build.Summary{Line: "all 1 steps cached", Explained: []build.Step{{Name: "s", Cached: true, Reason: "r"}}},
		}, nil
	}}
	s, cl := daemon(t, f)
	all := run(t, cl, &buildmsg.Request{
		Context: buildmsg.Source{Dir: dirOf(t, dir)}, Text: []byte("FROM scratch"), Secrets: map[string][]byte{"a": []byte("s3cret")}, Tags: []string{"app"},
	}, nil)
	seen := 0
	for _, m := range all {
		seen += len(m.Vertexes)
	}
	end := last(all)
	if end.Failure != nil {
		t.Fatal(end.Failure.Message)
	}
	if end.Result == nil || end.Result.ID != "sha256:id" || end.Result.Names[0] != "app" || end.Result.Summary != "all 1 steps cached" || len(end.Result.Steps) != 1 {
		t.Errorf("result %+v", end.Result)
	}
	if seen != 100 {
		t.Errorf("%d of 100 vertices were told", seen)
	}
	if left, _ := os.ReadDir(filepath.Join(s.BuildDir, "sent")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestBuildFromAfar has a client whose files are not on the daemon's machine, and one that lies about it.
func TestBuildFromAfar(t *testing.T) {
	var contexts atomic.Int32
	var out bytes.Buffer
	f := &fakeMaker{solve: func(ctx context.Context, r build.Request, _ build.Status) (*build.Response, error) {
		for range 2 { // The second time nothing is sent.
			d, err := r.Session.Local(ctx, "context", build.LocalOptions{Exclude: []string{"ignored"}})
			if err != nil {
				return nil, err
			}
			if raw, err := os.ReadFile(filepath.Join(d.Dir, "sub", "f")); string(raw) != "content" || d.InPlace {
				return nil, fmt.Errorf("the file is %q in %+v: %w", raw, d, err)
			}
			d.Release()
		}
		body, err := r.Session.Upload(ctx, r.Attrs["context:up"])
		if err != nil {
			return nil, err
		}
		if raw, err := io.ReadAll(body); string(raw) != "archive" || err != nil {
			return nil, fmt.Errorf("the archive is %q: %w", raw, err)
		}
		_ = body.Close()
		if a, err := r.Session.Credentials(ctx, "reg"); err != nil || a.Username != "u" || a.Password != "p" {
			return nil, fmt.Errorf("credentials %+v: %w", a, err)
		}
		conn, err := r.Session.SSH(ctx, "")
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(conn, "ping"); err != nil {
			return nil, err
		}
		pong := make([]byte, 4)
		if _, err := io.ReadFull(conn, pong); err != nil || string(pong) != "pong" {
			return nil, fmt.Errorf("the agent says %q: %w", pong, err)
		}
		_ = conn.Close()
		w, err := r.Session.Output(ctx, 0, nil)
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, "made"); err != nil {
			return nil, err
		}
		return &build.Response{}, w.Close()
	}}
	s, cl := daemon(t, f)
	give := func(w *buildmsg.Want, st *clientpkg.Stream) {
		switch w.Kind {
		case "dir":
			contexts.Add(1)
			if len(w.Exclude) != 1 || w.Exclude[0] != "ignored" {
				t.Errorf("wanted %+v", w)
			}
			_, _ = st.Write(testbed.Tar(t, tar.Header{Name: "sub/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "sub/f", Linkname: "content"}))
		case "stream":
			_, _ = io.WriteString(st, "archive")
		case "auth":
			_ = json.NewEncoder(st).Encode(buildmsg.Credentials{Username: "u", Password: "p"})
		case "ssh":
			_, _ = io.ReadFull(st.Reader(), make([]byte, 4))
			_, _ = io.WriteString(st, "pong")
			_, _ = io.Copy(io.Discard, st.Reader())
			return
		case "output":
			_, _ = io.Copy(&out, st.Reader())
			_, _ = io.WriteString(st, "ok")
		}
		_ = st.CloseWrite()
	}
	all := run(t, cl, &buildmsg.Request{
		Context: buildmsg.Source{Dir: &buildmsg.Dir{Path: t.TempDir(), Dev: 1, Ino: 1}}, // There is such a path here, but it is another directory.
		Agents:  map[string]buildmsg.Agent{"default": {}}, Outputs: []buildmsg.Output{{Type: "tar", ToClient: true}},
	}, give)
	if end := last(all); end.Failure != nil || end.Result == nil {
		t.Fatalf("%+v", end.Failure)
	}
	if out.String() != "made" || contexts.Load() != 1 {
		t.Errorf("output %q, %d contexts", out.String(), contexts.Load())
	}
	if left, _ := os.ReadDir(filepath.Join(s.BuildDir, "sent")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestHostileContext(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	f := &fakeMaker{solve: func(ctx context.Context, r build.Request, _ build.Status) (*build.Response, error) {
		_, err := r.Session.Local(ctx, "context", build.LocalOptions{})
		return &build.Response{}, err
	}}
	_, cl := daemon(t, f)
	run(t, cl, &buildmsg.Request{Context: buildmsg.Source{Dir: &buildmsg.Dir{Path: "/nonexistent"}}}, func(_ *buildmsg.Want, st *clientpkg.Stream) {
		_, _ = st.Write(testbed.Tar(
			t,
			tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: filepath.Dir(outside)},
			tar.Header{Name: "link/outside", Linkname: "x"},
			tar.Header{Name: "../../../../../../../../" + outside, Linkname: "x"},
		))
		_ = st.CloseWrite()
	})
	if _, err := os.Stat(outside); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the context was written outside of its directory: %v", err)
	}
}

func TestGiveWithoutWant(t *testing.T) {
	_, cl := daemon(t, &fakeMaker{})
	if _, err := cl.Hijack(clientpkg.Post("/kist/build/give", map[string][]string{"want": {"guessed"}})); !errdefs.IsNotFound(err) {
		t.Errorf("a stream that nobody wants: %v", err)
	}
}

func TestClientThatGoesEndsItsBuild(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	f := &fakeMaker{solve: func(ctx context.Context, _ build.Request, status build.Status) (*build.Response, error) {
		status(&client.SolveStatus{Vertexes: []*client.Vertex{{Name: "x"}}})
		close(started)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}}
	_, cl := daemon(t, f)
	r, err := clientpkg.PostJSON("/kist/build", nil, &buildmsg.Request{})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := cl.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	<-started
	_ = resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the build goes on without its client")
	}
}

func TestBuildFailureShowsTheLines(t *testing.T) {
	file := []byte("FROM a\n\nRUN one && \\\n  two\nRUN three\nRUN four\nRUN five\nRUN six\n")
	err := error(&build.StepError{Name: "[2/3] RUN one", Command: "one && two", ExitCode: 127, Tail: []byte("one: not found"), Err: errors.New("exit code: 127")})
	err = bkerrdefs.WithSource(err, &bkerrdefs.Source{
		Info:   &pb.SourceInfo{Filename: "Dockerfile", Data: file},
		Ranges: []*pb.Range{{Start: &pb.Position{Line: 3}, End: &pb.Position{Line: 4}}},
	})
	f := buildFailure(fmt.Errorf("failed to solve: %w", err))
	want := &buildmsg.Failure{
		Parts: fault.Parts{
			Message: "failed to solve: exit code: 127", Code: "build-step-failed", What: "the step [2/3] RUN one failed with exit code 127", Cause: "its command ended with exit code 127: the command was not found",
			Try: "correct its name, or install it in an earlier step",
		},
		Step: "[2/3] RUN one", Command: "one && two", ExitCode: 127, Tail: []byte("one: not found"),
		Places: []buildmsg.Place{{
			File: "Dockerfile", First: 1, Lines: []string{"FROM a", "", "RUN one && \\", "  two", "RUN three", "RUN four", "RUN five"},
			Marks: []buildmsg.Range{{Start: buildmsg.Position{Line: 3}, End: buildmsg.Position{Line: 4}}},
		}},
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	for _, r := range []*pb.Range{nil, {Start: &pb.Position{Line: -5}}, {Start: &pb.Position{Line: 99}}, {Start: &pb.Position{Line: 8}, End: &pb.Position{Line: 1 << 30}}} {
		placeOf(&pb.SourceInfo{Data: file}, []*pb.Range{r}) // A frontend's ranges may lie.
	}
}

func TestBuildPruneAndUsage(t *testing.T) {
	f := &fakeMaker{records: []build.Record{{ID: "a", Size: 7}, {ID: "b", Size: 5, Shared: true}, {ID: "c", Size: 3, InUse: true}}, sent: 100}
	s, _ := daemon(t, f)
	list, err := s.cacheRecords(t.Context())
	if err != nil || len(list) != 4 || list[3].ID != contextsID {
		t.Fatalf("%+v, %v", list, err)
	}
	if u := cacheUsage(list, false); u.TotalCount != 4 || u.TotalSize != 110 || u.Reclaimable != 107 || u.ActiveCount != 1 || u.Items != nil {
		t.Errorf("%+v", u)
	}
	w := do(s, http.MethodPost, `/build/prune?all=1&filters={"until":["24h"],"type":["regular"],"id":["abc"]}`, "")
	var report dockerbuild.CachePruneReport
	if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil || w.Code != 200 || len(report.CachesDeleted) != 3 || report.SpaceReclaimed != 10 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if o := f.pruned; !o.All || len(o.Filters) != 1 || o.Filters[0] != "id~=abc,type==regular" || o.KeepFor < 23*time.Hour || o.KeepFor > 25*time.Hour {
		t.Errorf("%+v", o)
	}
	if w := do(s, http.MethodPost, `/build/prune?filters={"nonsense":["1"]}`, ""); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = do(s, http.MethodPost, `/build/prune`, "")
	if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil || report.SpaceReclaimed != 110 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestPruneTime(t *testing.T) {
	now := time.Unix(1000, 0)
	for s, want := range map[string]time.Time{"1m": time.Unix(940, 0), "500": time.Unix(500, 0), "1970-01-01T00:00:10Z": time.Unix(10, 0)} {
		if got, err := pruneTime(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if _, err := pruneTime("yesterday", now); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func TestRefusedWithoutBuilder(t *testing.T) {
	s := newServer(t, &fake{})
	for _, path := range []string{"/build", "/session", "/grpc", "/kist/build", "/build/prune"} {
		if w := do(s, http.MethodPost, path, ""); w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "building images") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
