package build

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/runstep"
)

// gateway is what a frontend sees of a build.
type gateway struct {
	j      *job
	attrs  map[string]string
	inputs map[string]*pb.Definition
	depth  int
}

var _ gwclient.Client = (*gateway)(nil)

// maxDepth bounds frontends that call frontends.
const maxDepth = 10

// BuildOpts tells the frontend about its task and its builder.
func (g *gateway) BuildOpts() gwclient.BuildOpts {
	return gwclient.BuildOpts{
		Opts: g.attrs, SessionID: g.session(), Product: "kist",
		Workers: []gwclient.WorkerInfo{{ID: "kist", Platforms: runstep.Platforms()}},
		LLBCaps: pb.Caps.CapSet(pb.Caps.All()), Caps: gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

// session is the name of the client's side, empty if there is none.
func (g *gateway) session() string {
	if g.j.req.Session == nil {
		return ""
	}
	return g.j.req.Session.ID()
}

// Inputs are the graphs that came with the request.
func (g *gateway) Inputs(context.Context) (map[string]llb.State, error) {
	states := make(map[string]llb.State, len(g.inputs))
	for name, def := range g.inputs {
		op, err := llb.NewDefinitionOp(def)
		if err != nil {
			return nil, fmt.Errorf("the input %q: %w: %w", name, err, errdefs.ErrInvalidArgument)
		}
		states[name] = llb.NewState(op)
	}
	return states, nil
}

// Solve makes a graph, or runs a further frontend.
func (g *gateway) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	if err := g.j.addImports(ctx, req.CacheImports); err != nil {
		return nil, err
	}
	if req.Definition != nil && len(req.Definition.Def) > 0 {
		return g.graph(ctx, req)
	}
	if req.Frontend == "" {
		return gwclient.NewResult(), nil
	}
	return g.frontend(ctx, req.Frontend, req.FrontendOpt, req.FrontendInputs, g.depth+1)
}

// graph loads a definition. Nothing runs before somebody wants to see the result, unless the request says so.
func (g *gateway) graph(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	if req.Frontend != "" {
		return nil, fmt.Errorf("a request with both a graph and a frontend: %w", errdefs.ErrInvalidArgument)
	}
	e, err := load(req.Definition)
	if err != nil {
		return nil, err
	}
	return g.loaded(ctx, req, e)
}

// loaded takes a graph, which ends in e, into this build.
func (g *gateway) loaded(ctx context.Context, req gwclient.SolveRequest, e edge) (*gwclient.Result, error) {
	if err := g.j.allowed(e.vertex); err != nil {
		return nil, err
	}
	g.j.announce(e.vertex)
	r := &Reference{j: g.j, edge: e, def: req.Definition}
	if req.Evaluate {
		if err := r.Evaluate(ctx); err != nil {
			return nil, err
		}
	}
	res := gwclient.NewResult()
	if e.vertex != nil {
		res.SetRef(r)
	}
	return res, nil
}

// frontend runs a frontend: the Dockerfile's in this process, others in the containers that they come as.
func (g *gateway) frontend(ctx context.Context, name string, attrs map[string]string, inputs map[string]*pb.Definition, depth int) (*gwclient.Result, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("frontends call each other more than %d deep: %w", maxDepth, errdefs.ErrInvalidArgument)
	}
	attrs = maps.Clone(attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	run := runDockerfile
	switch name {
	case "dockerfile.v0":
	case "gateway.v0":
		if attrs["source"] == "" {
			return nil, fmt.Errorf("the frontend gateway.v0 without the option source, which names its image: %w", errdefs.ErrInvalidArgument)
		}
		if !builtIn(attrs["source"]) {
			run = runImage
		} else if attrs["cmdline"] == "" {
			attrs["cmdline"] = attrs["source"] // Or the frontend would look for a syntax line again.
		}
	default:
		return nil, fmt.Errorf("the frontend %q: %w", name, errdefs.ErrNotImplemented)
	}
	// What the client asked for the whole build holds for frontends that it calls by itself.
	sub := &gateway{j: g.j, attrs: attrs, inputs: inputs, depth: depth}
	g.j.noteFrontend(name, attrs)
	if raw := attrs["cache-imports"]; raw != "" {
		// The frontend will hand them on with each graph; they are opened before the first one.
		var entries []gwclient.CacheOptionsEntry
		if err := json.Unmarshal([]byte(raw), &entries); err != nil {
			return nil, fmt.Errorf("cache-imports: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		if err := g.j.addImports(ctx, entries); err != nil {
			return nil, err
		}
	}
	res, err := run(ctx, sub)
	return res, g.j.onePlace(err)
}

// builtIn says whether an image is that of the Dockerfile frontend, which is built in.
func builtIn(source string) bool {
	name, _, _ := strings.Cut(source, "@")
	name = strings.TrimPrefix(name, "docker.io/")
	name, _, _ = strings.Cut(name, ":")
	return name == "docker/dockerfile" || name == "docker/dockerfile-upstream"
}

// ResolveSourceMetadata tells what a source stands for, before it is fetched.
func (g *gateway) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return g.j.metadata(ctx, op, opt)
}

// ResolveImageConfig is ResolveSourceMetadata for images.
func (g *gateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return sourceresolver.NewImageMetaResolver(g).ResolveImageConfig(ctx, ref, opt)
}

// NewContainer would be for frontends that run commands outside of a graph, as debuggers do.
func (g *gateway) NewContainer(context.Context, gwclient.NewContainerRequest) (gwclient.Container, error) {
	return nil, fmt.Errorf("containers for frontends: %w", errdefs.ErrNotImplemented)
}

// Warn shows a warning with a vertex.
func (g *gateway) Warn(_ context.Context, d digest.Digest, msg string, opts gwclient.WarnOpts) error {
	g.j.progress.put(func(s *client.SolveStatus) {
		s.Warnings = append(s.Warnings, &client.VertexWarning{
			Vertex: d, Level: opts.Level, Short: []byte(msg), Detail: opts.Detail, URL: opts.URL, SourceInfo: opts.SourceInfo, Range: opts.Range,
		})
	})
	return nil
}
