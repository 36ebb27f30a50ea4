package build

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerui"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/runstep"
)

// A frontend that is not built in comes as an image. Its entrypoint runs in a container as a build's command does: on a copy
// of its image that is thrown away, with a network unless its image declines one, and with nothing of this machine. It
// speaks gRPC over its standard input and output, and sees of the build what its gateway shows.

// frontendImage is a frontend that comes as an image.
type frontendImage struct {
	source string // as the syntax line has it
	def    *pb.Definition
	layers []digest.Digest
	config dockerspec.DockerOCIImageConfig
}

// Labels of frontend images.
const (
	labelCaps      = "moby.buildkit.frontend.caps"
	labelNoNetwork = "moby.buildkit.frontend.network.none"
	capInputs      = "moby.buildkit.frontend.inputs"
)

// runImage runs the frontend that the option source names.
func runImage(ctx context.Context, client gwclient.Client) (*gwclient.Result, error) {
	g, ok := client.(*gateway)
	if !ok {
		return nil, fmt.Errorf("a frontend on a gateway of type %T: %w", client, errdefs.ErrInvalidArgument)
	}
	f, err := g.frontendImage(ctx, g.attrs["source"])
	if err != nil {
		return nil, err
	}
	if err := f.capable(g.attrs, len(g.inputs) > 0); err != nil {
		return nil, err
	}
	return g.container(ctx, f)
}

// frontendImage brings the image here: one that the client names a context for is that context.
func (g *gateway) frontendImage(ctx context.Context, source string) (*frontendImage, error) {
	f := &frontendImage{source: source}
	st, err := g.frontendContext(ctx, f)
	if err == nil && st == nil {
		st, err = g.frontendSource(ctx, f)
	}
	if err != nil {
		return nil, fmt.Errorf("the frontend %s: %w", source, err)
	}
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, fmt.Errorf("the frontend %s: %w", source, err)
	}
	f.def = def.ToPB()
	e, err := load(f.def)
	if err != nil {
		return nil, fmt.Errorf("the frontend %s: %w", source, err)
	}
	if e.vertex == nil {
		return nil, fmt.Errorf("the frontend %s is an image without files: %w", source, errdefs.ErrInvalidArgument)
	}
	if err := g.j.allowed(e.vertex); err != nil {
		return nil, err
	}
	g.j.announce(e.vertex)
	res, err := g.j.solve(ctx, e)
	if err != nil {
		return nil, err // The step that failed names the image.
	}
	g.j.noteFrontendImage(e.vertex)
	f.layers, err = g.j.layers(ctx, res)
	return f, err
}

// frontendContext is the named context that stands in for the image, if there is one.
func (g *gateway) frontendContext(ctx context.Context, f *frontendImage) (*llb.State, error) {
	isContext := func(k string) bool { return strings.HasPrefix(k, "context:") }
	if !slices.ContainsFunc(slices.Collect(maps.Keys(g.attrs)), isContext) {
		return nil, nil //nolint:nilnil // There is none.
	}
	c, err := dockerui.NewClient(g)
	if err != nil {
		return nil, err
	}
	nc, err := c.NamedContext(f.source, dockerui.ContextOpt{ResolveMode: g.attrs["image-resolve-mode"]})
	if err != nil || nc == nil {
		return nil, err
	}
	st, img, err := nc.Load(ctx)
	if err == nil && img != nil {
		f.config = img.Config
	}
	return st, err
}

// frontendSource is the image itself, found as FROM finds one.
func (g *gateway) frontendSource(ctx context.Context, f *frontendImage) (*llb.State, error) {
	named, err := reference.ParseNormalizedNamed(f.source)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	mode := g.attrs["image-resolve-mode"]
	ref, d, config, err := g.ResolveImageConfig(ctx, reference.TagNameOnly(named).String(), sourceresolver.Opt{
		LogName: "resolve image config for " + named.String(), ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: mode},
	})
	if err != nil {
		return nil, err
	}
	var img dockerspec.DockerOCIImage
	if err := json.Unmarshal(config, &img); err != nil {
		return nil, fmt.Errorf("read its configuration: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	f.config = img.Config
	if named, err = reference.ParseNormalizedNamed(ref); err != nil {
		return nil, err
	}
	if d != "" {
		if named, err = reference.WithDigest(named, d); err != nil {
			return nil, err
		}
	}
	var opts []llb.ImageOption
	switch mode {
	case pb.AttrImageResolveModeForcePull:
		opts = append(opts, llb.ResolveModeForcePull)
	case pb.AttrImageResolveModePreferLocal:
		opts = append(opts, llb.ResolveModePreferLocal)
	}
	st := llb.Image(named.String(), opts...)
	return &st, nil
}

// capable refuses what the frontend does not say that it can. Clients know the refusal, and do without.
func (f *frontendImage) capable(attrs map[string]string, inputs bool) error {
	has, wants := capabilities(f.config.Labels[labelCaps]), capabilities(attrs["frontend.caps"])
	if inputs {
		wants = append(wants, capInputs)
	}
	for _, c := range wants {
		if !slices.Contains(has, c) {
			return grpcerrors.WrapCode(bkerrdefs.NewUnsupportedFrontendCapError(c), codes.Unimplemented)
		}
	}
	return nil
}

// capabilities reads a list of them; what is behind a plus sign is for whoever forwards it.
func capabilities(list string) []string {
	var names []string
	for c := range strings.SplitSeq(list, ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(c), "+"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// metadataFile is where a frontend finds the graph of its own image.
const metadataFile = "/run/config/buildkit/metadata/frontend.bin"

// request is the frontend's container.
func (f *frontendImage) request(g *gateway) (runstep.Request, error) {
	env, err := g.frontendEnv(f.config.Env)
	if err != nil {
		return runstep.Request{}, err
	}
	own, err := f.def.MarshalVT()
	if err != nil {
		return runstep.Request{}, err
	}
	op := &pb.ExecOp{Meta: &pb.Meta{Args: f.config.Entrypoint, Env: env, Cwd: f.config.WorkingDir}}
	if len(op.Meta.Args) == 0 {
		op.Meta.Args = []string{"/run"}
	}
	if op.Meta.Cwd == "" {
		op.Meta.Cwd = "/"
	}
	if none, _ := strconv.ParseBool(f.config.Labels[labelNoNetwork]); none {
		op.Network = pb.NetMode_NONE
	}
	root := &pb.Mount{Dest: pb.RootMount, MountType: pb.MountType_BIND, Output: -1}
	metadata := &pb.Mount{
		Dest: metadataFile, MountType: pb.MountType_SECRET, Input: -1, Output: -1, SecretOpt: &pb.SecretOpt{ID: metadataFile, Mode: 0o400},
	}
	op.Mounts = []*pb.Mount{root, metadata}
	r := runstep.Request{
		ID: newID(), Op: op, Mounts: []runstep.Mount{{Mount: root}, {Mount: metadata}},
		Secrets: func(context.Context, string) ([]byte, error) { return own, nil }, // There is one.
		Commit:  layer.CommitOptions{Hold: g.j.hold},
	}
	r.Mounts[0].Source.Layers = f.layers
	return r, nil
}

// frontendEnv are the variables by which a frontend is told its task.
func (g *gateway) frontendEnv(own []string) ([]string, error) {
	env := slices.Clone(own)
	for i, k := range slices.Sorted(maps.Keys(g.attrs)) {
		env = append(env, fmt.Sprintf("BUILDKIT_FRONTEND_OPT_%d=%s=%s", i, k, g.attrs[k]))
	}
	o := g.BuildOpts()
	workers, err := json.Marshal(o.Workers)
	if err != nil {
		return nil, err
	}
	return append(env, "BUILDKIT_SESSION_ID="+o.SessionID, "BUILDKIT_WORKERS="+string(workers), "BUILDKIT_EXPORTEDPRODUCT="+o.Product), nil
}
