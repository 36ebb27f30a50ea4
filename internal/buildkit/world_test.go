package buildkit

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/testbed"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// gRPC's clients end some goroutines a moment after Close.
		goleak.IgnoreAnyFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"),
		goleak.IgnoreAnyFunction("google.golang.org/grpc/internal/transport.(*controlBuffer).get"),
	)
}

// fakeBuilder runs a function as a build. It is the builder's side of the seam.
type fakeBuilder struct {
	build func(ctx context.Context, r build.Request, status build.Status) (*build.Response, error)
	// gateway is what clients' frontends get.
	gateway gwclient.Client

	mu      sync.Mutex // guards what follows
	results []*gwclient.Result
	records []build.Record
	pruned  []build.PruneOptions
}

func (f *fakeBuilder) Solve(ctx context.Context, r build.Request, status build.Status) (*build.Response, error) {
	return f.build(ctx, r, status)
}

func (f *fakeBuilder) Build(ctx context.Context, r build.Request, fn build.Gateway, status build.Status) (*build.Response, error) {
	res, err := fn(ctx, f.gateway)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.results = append(f.results, res)
	f.mu.Unlock()
	return f.build(ctx, r, status)
}

func (f *fakeBuilder) Usage(context.Context, []string) ([]build.Record, error) { return f.records, nil }

func (f *fakeBuilder) Prune(_ context.Context, o build.PruneOptions, report func(build.Record)) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pruned = append(f.pruned, o)
	var sum int64
	for _, r := range f.records {
		report(r)
		sum += r.Size
	}
	return sum, nil
}

// world is a server with a real BuildKit client.
type world struct {
	t       *testing.T
	server  *Server
	builder *fakeBuilder
	client  *client.Client
	dir     string
}

func newWorld(t *testing.T, f *fakeBuilder) *world {
	t.Helper()
	if f.build == nil {
		f.build = func(context.Context, build.Request, build.Status) (*build.Response, error) {
			return &build.Response{Exporter: map[string]string{"containerimage.digest": "sha256:made"}}, nil
		}
	}
	dir := t.TempDir()
	s, err := New(Config{
		Builder: f, Dir: dir, Version: "test",
		Platforms: func() []ocispec.Platform { return []ocispec.Platform{{OS: "linux", Architecture: "amd64"}} },
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, server: s, builder: f, dir: dir}
	dial := func(context.Context, string) (net.Conn, error) {
		near, far := testbed.SocketPair(t)
		return near, s.ServeGRPC(far)
	}
	session := func(_ context.Context, _ string, meta map[string][]string) (net.Conn, error) {
		near, far := testbed.SocketPair(t)
		go func() { _ = s.ServeSession(context.Background(), far, meta) }()
		return near, nil
	}
	w.client, err = client.New(t.Context(), "", client.WithContextDialer(dial), client.WithSessionDialer(session))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.client.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// fakeGateway answers what frontends ask with fixed things.
type fakeGateway struct {
	gwclient.Client
	solve func(gwclient.SolveRequest) (*gwclient.Result, error)

	mu       sync.Mutex
	warnings []string
}

func (g *fakeGateway) Solve(_ context.Context, r gwclient.SolveRequest) (*gwclient.Result, error) {
	return g.solve(r)
}

func (g *fakeGateway) Warn(_ context.Context, _ digest.Digest, msg string, _ gwclient.WarnOpts) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.warnings = append(g.warnings, msg)
	return nil
}

func (g *fakeGateway) ResolveSourceMetadata(_ context.Context, op *pb.SourceOp, _ sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: digest.FromString("image"), Config: []byte(`{"os":"linux"}`)}}, nil
}

// fakeRef is a result with one file.
type fakeRef struct{ content string }

func (r *fakeRef) ToState() (llb.State, error)    { return llb.Scratch(), nil }
func (r *fakeRef) Evaluate(context.Context) error { return nil }

func (r *fakeRef) ReadFile(_ context.Context, req gwclient.ReadRequest) ([]byte, error) {
	return []byte(req.Filename + ": " + r.content), nil
}

func (r *fakeRef) StatFile(_ context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	return &fstypes.Stat{Path: req.Path, Size: int64(len(r.content))}, nil
}

func (r *fakeRef) ReadDir(context.Context, gwclient.ReadDirRequest) ([]*fstypes.Stat, error) {
	return []*fstypes.Stat{{Path: "file"}}, nil
}

// within fails the test when something takes too long.
func within(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not within 20 s", what)
	}
}
