package build

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fileop"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/runstep"
	"github.com/kistdev/kist/internal/treesum"
)

// world is a builder on real stores, whose commands and copies are played.
type world struct {
	t      testing.TB
	b      *Builder
	cache  *Cache
	layers *layer.Store
	images *image.Store
	dir    string

	mu sync.Mutex // guards what follows
	// ran are the commands and copies in the order in which they began.
	ran []string
	// play does what a command would; its text becomes the layer's content.
	play map[string]func(context.Context) (string, error)
	// context is the client's directory.
	context map[string]string
	// disturbed says that the context changed while it was used.
	disturbed bool
	events    []*client.SolveStatus
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), play: map[string]func(context.Context) (string, error){}, context: map[string]string{}}
	var err error
	if w.layers, err = layer.Open(filepath.Join(w.dir, "layers")); err != nil {
		t.Fatal(err)
	}
	if w.images, err = image.Open(image.Options{
		Dir: filepath.Join(w.dir, "content"), Layers: w.layers,
		Keep: func() []digest.Digest {
			if w.cache == nil {
				return nil
			}
			return w.cache.Layers()
		},
	}); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(func() {
		w.close()
		if err := w.layers.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.cache, err = OpenCache(filepath.Join(w.dir, "build.db")); err != nil {
		w.t.Fatal(err)
	}
	w.b = open(Config{Dir: w.dir, Cache: w.cache, Layers: w.layers, Images: w.images, Commands: commands{w}}, w)
}

func (w *world) close() {
	w.t.Helper()
	if err := errors.Join(w.b.Close(), w.cache.Close()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ran = append(w.ran, what)
}

// took returns what has run since the last call, sorted.
func (w *world) took() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.ran)
	text := strings.Join(w.ran, ", ")
	w.ran = nil
	return text
}

// layer makes a layer that holds one file.
func (w *world) layer(ctx context.Context, text string) (digest.Digest, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: int64(len(text))}); err != nil {
		return "", err
	}
	if _, err := tw.Write([]byte(text)); err != nil {
		return "", err
	}
	if err := tw.Close(); err != nil {
		return "", err
	}
	return w.layers.Ingest(ctx, &buf)
}

// Run plays a command (Commands).
func (w *world) command(ctx context.Context, r runstep.Request) ([]layer.Committed, error) {
	name := strings.Join(r.Op.Meta.Args, " ")
	w.note(name)
	text := name + strings.Join(r.Op.Meta.Env, ",")
	if play := w.play[name]; play != nil {
		var err error
		if text, err = play(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := fmt.Fprintf(r.Output, "output of %s\n", name); err != nil {
		return nil, err
	}
	d, err := w.layer(ctx, text)
	if err != nil {
		return nil, err
	}
	r.Commit.Hold.Take(d)
	return []layer.Committed{{DiffID: d, Size: int64(len(text))}}, nil
}

// commands is the world as Commands.
type commands struct{ *world }

func (c commands) Run(ctx context.Context, r runstep.Request) ([]layer.Committed, error) {
	return c.command(ctx, r)
}

// Run plays a copy (files).
func (w *world) Run(ctx context.Context, op *pb.FileOp, inputs []fileop.Source, hold *layer.Hold) (*fileop.Result, error) {
	w.note(actionName(op.Actions[0]))
	d, err := w.layer(ctx, fmt.Sprint(op.Actions, w.context))
	if err != nil {
		return nil, err
	}
	hold.Take(d)
	var base []digest.Digest
	if i := op.Actions[0].Input; i >= 0 {
		base = inputs[i].Layers
	}
	return &fileop.Result{Outputs: []fileop.Output{{Layers: append(slices.Clone(base), d)}}}, nil
}

func (w *world) Merge(context.Context, []fileop.Source, *layer.Hold) (*fileop.Result, error) {
	return nil, errdefs.ErrNotImplemented
}

func (w *world) Diff(context.Context, fileop.Source, fileop.Source, *layer.Hold) (*fileop.Result, error) {
	return nil, errdefs.ErrNotImplemented
}

func (w *world) Layers(_ context.Context, src fileop.Source, _ *layer.Hold) (*fileop.Result, error) {
	return &fileop.Result{Outputs: []fileop.Output{{Layers: src.Layers}}}, nil
}

// InputDigest counts the files of the context that a copy names; everything else counts whole.
func (w *world) InputDigest(_ context.Context, op *pb.FileOp, i int, src fileop.Source) (digest.Digest, bool, error) {
	if src.Local == nil {
		return "", true, nil
	}
	return digest.FromString(fmt.Sprint(w.selected(op))), false, nil
}

func (w *world) selected(op *pb.FileOp) map[string]string {
	src := strings.Trim(op.Actions[0].GetCopy().GetSrc(), "/")
	found := map[string]string{}
	for name, text := range w.context {
		if src == "" || src == name || strings.HasPrefix(name, src+"/") {
			found[name] = text
		}
	}
	return found
}

func (w *world) InputFiles(_ context.Context, op *pb.FileOp, _ int, _ fileop.Source, yield func(string, digest.Digest) bool) error {
	for name, text := range w.selected(op) {
		if !yield(name, digest.FromString(text)) {
			break
		}
	}
	return nil
}

func (w *world) SelectDigest(context.Context, treesum.Selection, fileop.Source) (digest.Digest, error) {
	return digest.FromString(fmt.Sprint(w.context)), nil
}

func (w *world) Unchanged(context.Context, treesum.Selection, fileop.Source) (bool, error) {
	return !w.disturbed, nil
}

// session is a client that has a context.
type session struct{ w *world }

func (s session) ID() string { return placeID }

func (s session) Local(_ context.Context, name string, _ LocalOptions) (*LocalDir, error) {
	return &LocalDir{Dir: s.w.dir, Key: name, InPlace: true}, nil
}

func (session) Secret(context.Context, string) ([]byte, error) { return nil, errdefs.ErrNotFound }
func (session) SSH(context.Context, string) (net.Conn, error)  { return nil, errdefs.ErrNotFound }
func (session) Upload(context.Context, string) (io.ReadCloser, error) {
	return nil, errdefs.ErrNotFound
}
func (session) OutputTrees(context.Context, int, []Tree) error { return errdefs.ErrNotFound }
func (session) Credentials(context.Context, string) (*apiregistry.AuthConfig, error) {
	return nil, nil
}

func (session) Output(context.Context, int, map[string]string) (io.WriteCloser, error) {
	return nil, errdefs.ErrNotFound
}

func (session) Content(context.Context, string, string) (io.ReadCloser, error) {
	return nil, errdefs.ErrNotFound
}

func (session) PutContent(context.Context, string, string, int64, io.Reader) error {
	return errdefs.ErrNotFound
}

// run is a step of a Dockerfile as its frontend writes it.
func run(base llb.State, name, args string, more ...llb.RunOption) llb.State {
	return base.Run(append([]llb.RunOption{llb.Args(strings.Fields(args)), llb.WithCustomName(name + " RUN " + args)}, more...)...).Root()
}

func copied(base llb.State, name, src string) llb.State {
	local := llb.Local("context", llb.WithCustomName("[internal] load build context"))
	return base.File(llb.Copy(local, src, "/"), llb.WithCustomName(name+" COPY "+src+" /"))
}

// solve builds a state.
func (w *world) solve(ctx context.Context, st llb.State) (*Response, error) {
	w.t.Helper()
	def, err := st.Marshal(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.b.Solve(ctx, Request{Definition: def.ToPB(), Evaluate: true, Session: session{w}}, func(s *client.SolveStatus) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, s)
	})
}

func (w *world) must(st llb.State) *Response {
	w.t.Helper()
	r, err := w.solve(w.t.Context(), st)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) write(name, text string) {
	w.t.Helper()
	w.context[name] = text
	if err := os.WriteFile(filepath.Join(w.dir, filepath.Base(name)), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) ctx() context.Context { return w.t.Context() }
