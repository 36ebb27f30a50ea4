// Command frontend is a frontend of a language of its own, for the tests: run from an image named in a syntax line, it turns
// lines into a graph.
//
//	from IMAGE        what the rest stands on
//	run COMMAND       a command for the shell
//	copy FROM TO      a file of the context
//	show TEXT         the image's command prints it
//	use IMAGE         has the Dockerfile's own frontend build a Dockerfile, and goes on from there
//	self PATH         a file of the frontend's own image
//	inspect NAME      shows a variable of the frontend's environment, or a file of its machine, among its messages
//	fail TEXT         ends with an error; crash, garbage, hang, nothing, container: ways to go wrong
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

func main() {
	if len(os.Args) > 1 { // broken before it speaks
		fmt.Println(strings.Join(os.Args[1:], " "))
		time.Sleep(time.Hour)
	}
	if err := grpcclient.RunFromEnvironment(context.Background(), build); err != nil {
		fmt.Fprintln(os.Stderr, "recipe:", err)
		os.Exit(1)
	}
}

// recipe is a build under way.
type recipe struct {
	gateway gwclient.Client
	options map[string]string
	context llb.State
	state   llb.State
	image   dockerspec.DockerOCIImage
}

func build(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
	o := c.BuildOpts()
	r := &recipe{
		gateway: c, options: o.Opts, state: llb.Scratch(),
		context: llb.Local("context", llb.SessionID(o.SessionID), llb.WithCustomName("[internal] load build context")),
	}
	r.image.OS, r.image.Architecture = "linux", o.Workers[0].Platforms[0].Architecture
	text, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "" || word == "#" {
			continue
		}
		if err := r.line(ctx, word, rest); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return r.result(ctx)
}

// read is the file that is to be built.
func (r *recipe) read(ctx context.Context) (string, error) {
	name := r.options["filename"]
	if name == "" {
		name = "Dockerfile"
	}
	st := llb.Local("dockerfile", llb.SessionID(r.gateway.BuildOpts().SessionID), llb.FollowPaths([]string{name}),
		llb.WithCustomName("[internal] load recipe"))
	ref, err := r.solve(ctx, st)
	if err != nil {
		return "", err
	}
	raw, err := ref.ReadFile(ctx, gwclient.ReadRequest{Filename: name})
	return string(raw), err
}

func (r *recipe) solve(ctx context.Context, st llb.State) (gwclient.Reference, error) {
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := r.gateway.Solve(ctx, gwclient.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

func (r *recipe) line(ctx context.Context, word, rest string) error {
	first, second, _ := strings.Cut(rest, " ")
	switch word {
	case "from":
		return r.from(ctx, rest)
	case "run":
		r.state = r.state.Run(llb.Shlex("sh -c "+fmt.Sprintf("%q", rest)), llb.WithCustomName("[recipe] run "+rest)).Root()
	case "copy":
		r.state = r.state.File(llb.Copy(r.context, first, second), llb.WithCustomName("[recipe] "+word+" "+rest))
	case "self":
		return r.self(first)
	case "show":
		r.image.Config.Cmd = []string{"echo", rest}
	case "use":
		return r.use(ctx)
	case "inspect":
		raw, err := os.ReadFile(rest)
		fmt.Fprintf(os.Stderr, "%s: variable %q, file %q, %v\n", rest, os.Getenv(rest), raw, err)
		for _, kv := range os.Environ() {
			if strings.Contains(kv, rest+"=") {
				fmt.Fprintln(os.Stderr, kv)
			}
		}
	case "warn":
		return r.gateway.Warn(ctx, "", rest, gwclient.WarnOpts{Level: 1})
	default:
		return r.wrong(ctx, word, rest)
	}
	return nil
}

// wrong are the ways to fail.
func (r *recipe) wrong(ctx context.Context, word, rest string) error {
	switch word {
	case "fail":
		return errors.New(rest)
	case "crash":
		fmt.Fprintln(os.Stderr, "about to crash")
		panic(rest)
	case "garbage":
		fmt.Println(rest)
	case "hang":
		fmt.Fprintln(os.Stderr, "hanging")
		time.Sleep(time.Hour)
	case "nothing":
		os.Exit(0)
	case "container":
		_, err := r.gateway.NewContainer(ctx, gwclient.NewContainerRequest{Mounts: []gwclient.Mount{{Dest: "/", MountType: pb.MountType_BIND}}})
		return err
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	return nil
}

func (r *recipe) from(ctx context.Context, image string) error {
	_, _, config, err := r.gateway.ResolveImageConfig(ctx, image, sourceresolver.Opt{})
	if err != nil {
		return err
	}
	r.state = llb.Image(image)
	return json.Unmarshal(config, &r.image)
}

// self copies from the image that this program came in: its graph is in a file.
func (r *recipe) self(path string) error {
	raw, err := os.ReadFile("/run/config/buildkit/metadata/frontend.bin")
	if err != nil {
		return err
	}
	def := new(pb.Definition)
	if err := def.UnmarshalVT(raw); err != nil {
		return err
	}
	op, err := llb.NewDefinitionOp(def)
	if err != nil {
		return err
	}
	r.state = r.state.File(llb.Copy(llb.NewState(op), path, "/"))
	return nil
}

// use has another frontend build Dockerfile.inner.
func (r *recipe) use(ctx context.Context) error {
	res, err := r.gateway.Solve(ctx, gwclient.SolveRequest{
		Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"filename": "Dockerfile.inner", "cmdline": "docker/dockerfile"},
	})
	if err != nil {
		return err
	}
	if raw := res.Metadata[exptypes.ExporterImageConfigKey]; raw != nil {
		if err := json.Unmarshal(raw, &r.image); err != nil {
			return err
		}
	}
	ref, err := res.SingleRef()
	if err == nil {
		r.state, err = ref.ToState()
	}
	return err
}

func (r *recipe) result(ctx context.Context) (*gwclient.Result, error) {
	ref, err := r.solve(ctx, r.state)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(r.image)
	if err != nil {
		return nil, err
	}
	res := gwclient.NewResult()
	res.SetRef(ref)
	res.AddMeta(exptypes.ExporterImageConfigKey, config)
	return res, nil
}
