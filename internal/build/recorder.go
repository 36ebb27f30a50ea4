package build

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"sync"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// recorder is the gateway for a frontend whose questions are written down.
type recorder struct {
	*gateway

	mu     sync.Mutex // guards what follows
	t      transcript
	silent bool // something was asked that no transcript has
}

// recordedRef is a result that the frontend looks into.
type recordedRef struct {
	gwclient.Reference
	r     *recorder
	local *localAnswer // nil for a graph
	graph int          // its number
}

func (r *recorder) spoil() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = true
}

// Solve writes down the graph, or which directory of the client is opened.
func (r *recorder) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	res, err := r.gateway.Solve(ctx, req)
	if err != nil || req.Frontend != "" || req.Evaluate || len(req.FrontendInputs) > 0 {
		r.spoil()
		return res, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ref := &recordedRef{Reference: res.Ref, r: r}
	if loneLocal(req.Definition) {
		ref.local = &localAnswer{req: req}
		r.t.locals = append(r.t.locals, ref.local)
	} else {
		a := graphAnswer{req: req}
		if own, ok := res.Ref.(*Reference); ok { // The empty file system has none.
			a.edge = own.edge
		}
		ref.graph = len(r.t.graphs)
		r.t.graphs = append(r.t.graphs, a)
	}
	if res.Ref != nil {
		res.Ref = ref
	}
	return res, nil
}

// loneLocal says whether a graph is nothing but a directory of the client.
func loneLocal(def *pb.Definition) bool {
	if def == nil || len(def.Def) != 2 {
		return false
	}
	op := new(pb.Op)
	if op.UnmarshalVT(def.Def[0]) != nil {
		return false
	}
	source := op.GetSource()
	return source != nil && strings.HasPrefix(source.Identifier, "local://")
}

// Warn writes down a warning.
func (r *recorder) Warn(ctx context.Context, d digest.Digest, msg string, opts gwclient.WarnOpts) error {
	r.mu.Lock()
	r.t.warnings = append(r.t.warnings, warning{d, msg, opts})
	r.mu.Unlock()
	return r.gateway.Warn(ctx, d, msg, opts)
}

// ResolveImageConfig writes down what an image was.
func (r *recorder) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	named, d, config, err := r.gateway.ResolveImageConfig(ctx, ref, opt)
	if err != nil {
		r.spoil()
		return named, d, config, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.t.images = append(r.t.images, imageAnswer{ref, opt, named, d, config})
	return named, d, config, nil
}

// What else can be asked is asked rarely, and answered with more than is worth keeping: such a frontend runs each time.

// ResolveSourceMetadata spoils the transcript.
func (r *recorder) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	r.spoil()
	return r.gateway.ResolveSourceMetadata(ctx, op, opt)
}

// NewContainer spoils the transcript.
func (r *recorder) NewContainer(ctx context.Context, req gwclient.NewContainerRequest) (gwclient.Container, error) {
	r.spoil()
	return r.gateway.NewContainer(ctx, req)
}

// ReadFile writes down what a file of the client's holds.
func (f *recordedRef) ReadFile(ctx context.Context, req gwclient.ReadRequest) ([]byte, error) {
	if f.local == nil {
		f.r.spoil()
		return f.Reference.ReadFile(ctx, req)
	}
	data, err := f.Reference.ReadFile(ctx, req)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		f.r.spoil()
		return data, err
	}
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	f.local.reads = append(f.local.reads, readAnswer{req, bytes.Clone(data), missing})
	return data, err
}

// Evaluate spoils the transcript.
func (f *recordedRef) Evaluate(ctx context.Context) error {
	f.r.spoil()
	return f.Reference.Evaluate(ctx)
}

// StatFile of a client's file need not be written down: the frontend wants to know only whether it is too large to be read.
func (f *recordedRef) StatFile(ctx context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	if f.local == nil {
		f.r.spoil()
	}
	return f.Reference.StatFile(ctx, req)
}

// ReadDir spoils the transcript.
func (f *recordedRef) ReadDir(ctx context.Context, req gwclient.ReadDirRequest) ([]*fstypes.Stat, error) {
	f.r.spoil()
	return f.Reference.ReadDir(ctx, req)
}

// transcript is what was written down, with what the frontend made of it; nil if that is not the whole of it.
func (r *recorder) transcript(res *gwclient.Result) *transcript {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent || len(res.Attestations) > 0 {
		return nil
	}
	t := r.t
	t.ref, t.metadata = noGraph, maps.Clone(res.Metadata)
	number := func(ref gwclient.Reference) (int, bool) {
		if f, ok := ref.(*recordedRef); ok && f.local == nil {
			return f.graph, true
		}
		return noGraph, false
	}
	if res.Ref != nil {
		n, ok := number(res.Ref)
		if !ok {
			return nil
		}
		t.ref = n
	}
	for key, ref := range res.Refs {
		n, ok := number(ref)
		if !ok {
			return nil
		}
		if t.refs == nil {
			t.refs = map[string]int{}
		}
		t.refs[key] = n
	}
	return &t
}

// unrecorded is the result without its recorder.
func unrecorded(res *gwclient.Result) *gwclient.Result {
	bare := func(ref gwclient.Reference) gwclient.Reference {
		if f, ok := ref.(*recordedRef); ok {
			return f.Reference
		}
		return ref
	}
	res.Ref = bare(res.Ref)
	for key, ref := range res.Refs {
		res.Refs[key] = bare(ref)
	}
	for _, all := range res.Attestations {
		for i := range all {
			all[i].Ref = bare(all[i].Ref)
		}
	}
	return res
}
