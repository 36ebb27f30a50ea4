package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/runstep"
)

// A frontend is a function: of its options, and of what the gateway answers it. So its questions and answers are kept, with
// what it made of them. The next build with the same options asks the same questions; while the answers are the same, the
// graphs are the same, and neither frontend nor decoder has to run.

// runDockerfile runs the Dockerfile frontend, unless it has done the same before.
func runDockerfile(ctx context.Context, client gwclient.Client) (*gwclient.Result, error) {
	g, ok := client.(*gateway)
	if !ok || len(g.inputs) > 0 || g.session() != placeID { // Other sessions' names are in their graphs, and do not come again.
		return dockerfile.Build(ctx, client)
	}
	key, err := g.task()
	if err != nil {
		return nil, err
	}
	if t, ok := g.j.b.transcripts.Get(key); ok {
		if res, err := t.replay(ctx, g); err == nil {
			return res, nil
		}
	}
	r := &recorder{gateway: g} // What it asks again has been answered in this build, and is shown once.
	res, err := dockerfile.Build(ctx, r)
	if err != nil {
		return nil, err
	}
	if t := r.transcript(res); t != nil {
		g.j.b.transcripts.Put(key, t)
	}
	return unrecorded(res), nil
}

// transcript is one run of the Dockerfile frontend. It does not change.
type transcript struct {
	locals   []*localAnswer
	images   []imageAnswer
	graphs   []graphAnswer
	warnings []warning
	// ref and refs are the results, as numbers of graphs.
	ref      int
	refs     map[string]int
	metadata map[string][]byte
}

// noGraph stands for a result without a graph.
const noGraph = -1

// localAnswer is a directory of the client, and what was read there. A file that was missing has no data.
type localAnswer struct {
	req   gwclient.SolveRequest
	reads []readAnswer
}

type readAnswer struct {
	req     gwclient.ReadRequest
	data    []byte
	missing bool
}

type imageAnswer struct {
	ref    string
	opt    sourceresolver.Opt
	named  string
	digest digest.Digest
	config []byte
}

// graphAnswer is a graph that the frontend made, decoded.
type graphAnswer struct {
	req  gwclient.SolveRequest
	edge edge
}

type warning struct {
	vertex digest.Digest
	text   string
	opts   gwclient.WarnOpts
}

// errChanged says that an answer is not the one that it was.
var errChanged = errors.New("an answer has changed")

// replay asks what the frontend asked, and returns its result if all is as it was.
func (t *transcript) replay(ctx context.Context, g *gateway) (*gwclient.Result, error) {
	for _, l := range t.locals {
		res, err := g.Solve(ctx, l.req)
		if err != nil {
			return nil, err
		}
		for _, r := range l.reads {
			if err := r.again(ctx, res.Ref); err != nil {
				return nil, err
			}
		}
	}
	questions, each := errgroup.WithContext(ctx)
	for _, q := range t.images {
		questions.Go(func() error { return q.again(each, g) })
	}
	if err := questions.Wait(); err != nil {
		return nil, err
	}
	return t.result(ctx, g)
}

// result hands the graphs to this build.
func (t *transcript) result(ctx context.Context, g *gateway) (*gwclient.Result, error) {
	refs := make([]gwclient.Reference, len(t.graphs))
	for i, a := range t.graphs {
		if err := g.j.addImports(ctx, a.req.CacheImports); err != nil {
			return nil, err
		}
		res, err := g.loaded(ctx, a.req, a.edge)
		if err != nil {
			return nil, err
		}
		refs[i] = res.Ref
	}
	for _, w := range t.warnings {
		if err := g.Warn(ctx, w.vertex, w.text, w.opts); err != nil {
			return nil, err
		}
	}
	res := &gwclient.Result{Metadata: maps.Clone(t.metadata)}
	if t.ref != noGraph {
		res.Ref = refs[t.ref]
	}
	for key, n := range t.refs {
		res.AddRef(key, refs[n])
	}
	return res, nil
}

func (r readAnswer) again(ctx context.Context, ref gwclient.Reference) error {
	data, err := ref.ReadFile(ctx, r.req)
	switch {
	case r.missing && errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case r.missing || !bytes.Equal(data, r.data):
		return errChanged
	}
	return nil
}

func (q imageAnswer) again(ctx context.Context, g *gateway) error {
	named, d, config, err := g.ResolveImageConfig(ctx, q.ref, q.opt)
	if err != nil {
		return err
	}
	if named != q.named || d != q.digest || !bytes.Equal(config, q.config) {
		return errChanged
	}
	return nil
}

// taskKey tells what a frontend was told from other tasks.
type taskKey [sha256.Size]byte

// maxTranscripts bounds how many are kept; each has the size of its Dockerfile and its graph.
const maxTranscripts = 16

// task is the key of what the frontend is told.
func (g *gateway) task() (k taskKey, err error) {
	raw, err := json.Marshal(struct {
		Attrs     map[string]string
		Platforms []ocispec.Platform
	}{g.attrs, runstep.Platforms()})
	return sha256.Sum256(raw), err
}
