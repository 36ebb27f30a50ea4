package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	control "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/testbed"
)

func TestFrontendAtTheClient(t *testing.T) {
	g := &fakeGateway{solve: func(r gwclient.SolveRequest) (*gwclient.Result, error) {
		if r.FrontendOpt["target"] != "app" || r.Frontend != "dockerfile.v0" {
			return nil, fmt.Errorf("asked for %+v", r)
		}
		res := gwclient.NewResult()
		res.AddRef("linux/amd64", &fakeRef{"amd"})
		res.AddRef("linux/arm64", &fakeRef{"arm"})
		res.AddMeta("refs.platforms", []byte("[]"))
		return res, nil
	}}
	f := &fakeBuilder{gateway: g}
	w := newWorld(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	resp, err := w.client.Build(ctx, client.SolveOpt{FrontendAttrs: map[string]string{}}, "test", func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		opts := c.BuildOpts()
		if opts.Caps.Contains(gateway.CapGatewayExec) {
			t.Error("containers of clients are promised")
		}
		if !opts.LLBCaps.Contains(pb.CapMergeOp) {
			t.Error("merge is not promised")
		}
		res, err := c.Solve(ctx, gwclient.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"target": "app"}})
		if err != nil {
			return nil, err
		}
		raw, err := res.Refs["linux/arm64"].ReadFile(ctx, gwclient.ReadRequest{Filename: "/x"})
		if string(raw) != "/x: arm" || err != nil {
			t.Errorf("read %q, %v", raw, err)
		}
		if st, err := res.Refs["linux/amd64"].StatFile(ctx, gwclient.StatRequest{Path: "f"}); err != nil || st.Size != 3 {
			t.Errorf("stat %v, %v", st, err)
		}
		if l, err := res.Refs["linux/amd64"].ReadDir(ctx, gwclient.ReadDirRequest{Path: "/"}); err != nil || len(l) != 1 {
			t.Errorf("dir %v, %v", l, err)
		}
		if _, dgst, config, err := c.ResolveImageConfig(ctx, "docker.io/library/x:1", sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{}}); err != nil || dgst == "" || len(config) == 0 {
			t.Errorf("image %s %s %v", dgst, config, err)
		}
		if err := c.Warn(ctx, digest.FromString("v"), "careful", gwclient.WarnOpts{}); err != nil {
			t.Error(err)
		}
		if _, err := c.NewContainer(ctx, gwclient.NewContainerRequest{}); err == nil {
			t.Error("a container of the client's was made")
		}
		return res, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.ExporterResponse["containerimage.digest"] != "sha256:made" {
		t.Errorf("response %v", resp.ExporterResponse)
	}
	if len(f.results) != 1 || len(f.results[0].Refs) != 2 || f.results[0].Refs["linux/arm64"].(*fakeRef).content != "arm" || string(f.results[0].Metadata["refs.platforms"]) != "[]" {
		t.Errorf("the builder got %+v", f.results)
	}
	if len(g.warnings) != 1 || g.warnings[0] != "careful" {
		t.Errorf("warnings %v", g.warnings)
	}
}

func TestFrontendAtTheClientFails(t *testing.T) {
	w := newWorld(t, &fakeBuilder{gateway: &fakeGateway{}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := w.client.Build(ctx, client.SolveOpt{FrontendAttrs: map[string]string{}}, "test", func(context.Context, gwclient.Client) (*gwclient.Result, error) {
		return nil, errors.New("no such stage")
	}, nil)
	if err == nil || !strings.Contains(err.Error(), "no such stage") {
		t.Errorf("the build says %v", err)
	}
}

// TestHostileCalls are calls of clients that do not keep to the protocol.
func TestHostileCalls(t *testing.T) {
	w := newWorld(t, &fakeBuilder{})
	ctx := t.Context()
	calls := map[string]func() error{
		"solve without ref": func() error {
			_, err := w.client.ControlClient().Solve(ctx, &control.SolveRequest{Frontend: "dockerfile.v0"})
			return err
		},
		"gateway without build": func() error {
			_, err := w.client.GatewayClientForBuild("").Ping(ctx, &gateway.PingRequest{})
			return err
		},
		"update of an unknown build": func() error {
			_, err := w.client.ControlClient().UpdateBuildHistory(ctx, &control.UpdateBuildHistoryRequest{Ref: "x", Delete: true})
			return err
		},
		"source policy": func() error {
			_, err := w.client.ControlClient().Solve(ctx, &control.SolveRequest{Ref: "p", Frontend: "dockerfile.v0", SourcePolicySession: "s"})
			return err
		},
	}
	want := map[string]codes.Code{
		"solve without ref": codes.InvalidArgument, "gateway without build": codes.InvalidArgument,
		"update of an unknown build": codes.NotFound, "source policy": codes.Unimplemented,
	}
	for name, call := range calls {
		if err := call(); grpcerrors.Code(err) != want[name] {
			t.Errorf("%s: %v, want code %s", name, err, want[name])
		}
	}
}

func TestSameRefTwice(t *testing.T) {
	release, started := make(chan struct{}), make(chan struct{})
	w := newWorld(t, &fakeBuilder{build: func(ctx context.Context, _ build.Request, _ build.Status) (*build.Response, error) {
		close(started)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return &build.Response{}, nil
	}})
	done := make(chan error, 1)
	go func() {
		_, err := w.client.ControlClient().Solve(t.Context(), &control.SolveRequest{Ref: "one", Frontend: "dockerfile.v0"})
		done <- err
	}()
	within(t, started, "the build's start")
	_, err := w.client.ControlClient().Solve(t.Context(), &control.SolveRequest{Ref: "one", Frontend: "dockerfile.v0"})
	if grpcerrors.Code(err) != codes.AlreadyExists {
		t.Errorf("a second build with the ref of one under way: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// progress is a build with three messages of progress.
func progress(_ context.Context, _ build.Request, status build.Status) (*build.Response, error) {
	now := time.Now()
	v := client.Vertex{Digest: digest.FromString("v"), Name: "[1/1] RUN true", Started: &now}
	status(&client.SolveStatus{Vertexes: []*client.Vertex{&v}})
	status(&client.SolveStatus{Logs: []*client.VertexLog{{Vertex: v.Digest, Data: []byte("hello\n"), Timestamp: now}}})
	ended := v
	ended.Completed, ended.Cached = &now, true
	status(&client.SolveStatus{Vertexes: []*client.Vertex{&ended}, Warnings: []*client.VertexWarning{{Vertex: v.Digest, Short: []byte("careful")}}})
	return &build.Response{Exporter: map[string]string{"image.name": "app"}}, nil
}

func TestStatusBeforeDuringAndAfter(t *testing.T) {
	w := newWorld(t, &fakeBuilder{build: progress})
	read := func(ref string) string {
		stream, err := w.client.ControlClient().Status(t.Context(), &control.StatusRequest{Ref: ref})
		if err != nil {
			return err.Error()
		}
		var seen strings.Builder
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return seen.String()
			}
			if err != nil {
				return err.Error()
			}
			for _, v := range m.Vertexes {
				fmt.Fprintf(&seen, "%s %v;", v.Name, v.Completed != nil)
			}
			for _, l := range m.Logs {
				seen.Write(l.Msg)
			}
		}
	}
	early := make(chan string, 1)
	go func() { early <- read("r") }() // Clients ask before they start the build.
	time.Sleep(10 * time.Millisecond)
	if _, err := w.client.ControlClient().Solve(t.Context(), &control.SolveRequest{Ref: "r", Frontend: "dockerfile.v0"}); err != nil {
		t.Fatal(err)
	}
	const want = "[1/1] RUN true false;hello\n[1/1] RUN true true;"
	if got := <-early; got != want {
		t.Errorf("asked before: %q", got)
	}
	if got := read("r"); got != want {
		t.Errorf("asked after: %q", got)
	}
}

func TestHistory(t *testing.T) {
	w := newWorld(t, &fakeBuilder{build: progress})
	cc := w.client.ControlClient()
	if _, err := cc.Solve(t.Context(), &control.SolveRequest{Ref: "first", Frontend: "dockerfile.v0"}); err != nil {
		t.Fatal(err)
	}
	if _, err := cc.Solve(t.Context(), &control.SolveRequest{Ref: "tool", Frontend: "dockerfile.v0", Internal: true}); err != nil {
		t.Fatal(err)
	}
	list := func() (out []*control.BuildHistoryRecord) {
		stream, err := cc.ListenBuildHistory(t.Context(), &control.BuildHistoryRequest{EarlyExit: true})
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e.Record)
		}
	}
	got := list()
	if len(got) != 1 || got[0].Ref != "first" || got[0].NumCachedSteps != 1 || got[0].NumTotalSteps != 1 || got[0].NumWarnings != 1 ||
		got[0].ExporterResponse["image.name"] != "app" || got[0].CompletedAt == nil {
		t.Fatalf("history %v", got)
	}
	if _, err := cc.UpdateBuildHistory(t.Context(), &control.UpdateBuildHistoryRequest{Ref: "first", Delete: true}); err != nil {
		t.Fatal(err)
	}
	if got := list(); len(got) != 0 {
		t.Errorf("after deletion: %v", got)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var js jobs
	now := time.Now()
	for i := range keptJobs + 10 {
		j, err := js.begin(&control.SolveRequest{Ref: fmt.Sprint(i)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			j.pinned = true
		}
		for range 4 {
			j.add(&client.SolveStatus{Logs: []*client.VertexLog{{Data: make([]byte, logLimit/2)}}})
		}
		if j.logSize > logLimit {
			t.Fatalf("%d bytes of output are held", j.logSize)
		}
		j.end(nil, nil, now)
		if j.logSize > keptLog {
			t.Fatalf("%d bytes of output are kept", j.logSize)
		}
	}
	if len(js.order) != keptJobs || len(js.byRef) != keptJobs || js.byRef["0"] == nil {
		t.Errorf("%d builds are kept, the pinned one: %v", len(js.order), js.byRef["0"] != nil)
	}
}

func TestWorkersUsageAndPrune(t *testing.T) {
	used := time.Now().Add(-time.Hour)
	f := &fakeBuilder{records: []build.Record{{ID: "a", Size: 7, Type: "regular", Description: "RUN x", LastUsed: used, Uses: 2}}}
	w := newWorld(t, f)
	workers, err := w.client.ListWorkers(t.Context())
	if err != nil || len(workers) != 1 || workers[0].Labels["org.mobyproject.buildkit.worker.snapshotter"] == "" || len(workers[0].Platforms) != 1 {
		t.Errorf("workers %+v, %v", workers, err)
	}
	if info, err := w.client.Info(t.Context()); err != nil || info.BuildkitVersion.Version != protocolVersion {
		t.Errorf("info %+v, %v", info, err)
	}
	du, err := w.client.DiskUsage(t.Context())
	if err != nil || len(du) != 1 || du[0].ID != "a" || du[0].UsageCount != 2 || !du[0].LastUsedAt.Equal(used) {
		t.Errorf("usage %+v, %v", du, err)
	}
	ch := make(chan client.UsageInfo, 8)
	if err := w.client.Prune(t.Context(), ch, client.PruneAll, client.WithKeepOpt(time.Hour, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	if r := <-ch; r.ID != "a" {
		t.Errorf("pruned %+v", r)
	}
	if o := f.pruned[0]; !o.All || o.KeepFor != time.Hour || o.Keep != 1 || o.MaxUsed != 2 || o.MinFree != 3 {
		t.Errorf("options %+v", o)
	}
}

func TestClientThatGoesEndsItsBuild(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	w := newWorld(t, &fakeBuilder{build: func(ctx context.Context, _ build.Request, _ build.Status) (*build.Response, error) {
		close(started)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = w.client.ControlClient().Solve(ctx, &control.SolveRequest{Ref: "x", Frontend: "dockerfile.v0"})
	}()
	within(t, started, "the build's start")
	cancel()
	within(t, ended, "the build's end")
}

// TestLegacyBuild is what docker's commands of 2018 to 2022 do: a session, and POST /build with version=2.
func TestLegacyBuild(t *testing.T) {
	var got build.Request
	f := &fakeBuilder{build: func(ctx context.Context, r build.Request, status build.Status) (*build.Response, error) {
		got = r
		if _, err := progress(ctx, r, status); err != nil {
			return nil, err
		}
		body, err := r.Session.Upload(ctx, r.Attrs["context"])
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(body)
		if string(raw) != "the context" {
			t.Errorf("context %q", raw)
		}
		return &build.Response{Exporter: map[string]string{"containerimage.config.digest": "sha256:id"}}, err
	}}
	w := newWorld(t, f)
	s, err := session.NewSession(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	near, far := testbed.SocketPair(t)
	header := http.Header{"X-Docker-Expose-Session-Uuid": {s.ID()}}
	_ = near
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(done); _ = w.server.ServeSession(ctx, far, header) }()
	defer func() { cancel(); within(t, done, "the session's end"); _ = near.Close() }()
	id := identity.NewID()
	go func() {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/build?version=2&buildid=upload-request:"+id, strings.NewReader("the context"))
		_ = w.server.ServeBuild(httptest.NewRecorder(), r)
	}()
	q := "version=2&remote=upload-request&buildid=" + id + "&session=" + s.ID() +
		"&t=app:1&target=prod&nocache=1&pull=1&networkmode=host&shmsize=64&buildargs=" + `{"A":"1","NONE":null}` +
		"&labels=" + `{"l":"x"}` + "&extrahosts=h:1.2.3.4&cachefrom=" + `["app:cache"]`
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/build?"+strings.ReplaceAll(q, `"`, "%22"), nil)
	rec := httptest.NewRecorder()
	if err := w.server.ServeBuild(rec, r); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"target": "prod", "no-cache": "", "image-resolve-mode": "pull", "force-network-mode": "host", "shm-size": "64",
		"build-arg:A": "1", "label:l": "x", "add-hosts": "h=1.2.3.4",
	} {
		if v, ok := got.Attrs[key]; !ok || v != want {
			t.Errorf("%s is %q, want %q", key, v, want)
		}
	}
	if _, ok := got.Attrs["build-arg:NONE"]; ok || len(got.CacheFrom) != 1 || got.CacheFrom[0].Attrs["ref"] != "app:cache" ||
		len(got.Exports) != 1 || got.Exports[0].Attrs["name"] != "app:1" || len(got.Entitlements) != 1 {
		t.Errorf("request %+v", got)
	}
	var traces int
	var image string
	for dec := json.NewDecoder(rec.Body); ; {
		var m struct {
			ID  string
			Aux json.RawMessage
		}
		if err := dec.Decode(&m); err != nil {
			break
		}
		switch m.ID {
		case idTrace:
			var raw []byte
			var st control.StatusResponse
			if err := json.Unmarshal(m.Aux, &raw); err != nil || st.UnmarshalVT(raw) != nil {
				t.Errorf("trace %s: %v", m.Aux, err)
			}
			traces++
		case idImage:
			image = string(m.Aux)
		}
	}
	if traces != 3 || image != `{"ID":"sha256:id"}` {
		t.Errorf("%d traces, image %s", traces, image)
	}
	if err := w.server.CancelBuild(id); err == nil {
		t.Error("a build that has ended was canceled")
	}
}
