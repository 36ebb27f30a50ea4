package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fileop"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/runstep"
)

// Commands runs commands as containers; *runstep.Runner.
type Commands interface {
	Run(ctx context.Context, r runstep.Request) ([]layer.Committed, error)
}

// execOp is RUN.
type execOp struct {
	j  *job
	v  *vertex
	op *pb.ExecOp
}

// key leaves out what does not change what a command makes: secrets' values, agents, what is in caches, proxies.
func (o *execOp) key(ctx context.Context, _ *track, inputs []result) (cacheKey, error) {
	op := o.op.CloneVT()
	op.Meta.ProxyEnv = nil
	for _, h := range op.Meta.ExtraHosts {
		h.IP = ""
	}
	more := []string{platforms.FormatAll(platformOf(o.v.op))}
	var inParts []part
	whole := make([]bool, len(inputs))
	for i, m := range op.Mounts {
		if m.CacheOpt != nil {
			m.CacheOpt = &pb.CacheOpt{}
		}
		if inputOf(m) < 0 {
			continue
		}
		p, err := o.input(ctx, m, inputs[m.Input])
		if err != nil {
			return cacheKey{}, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
		if p.name == mountedFiles {
			m.Selector = ""
		}
		whole[m.Input] = whole[m.Input] || p.whole
		if i > 0 {
			p.name += " mounted at " + m.Dest
		}
		more, inParts = append(more, p.value), append(inParts, p)
	}
	d, err := keyOf("exec", op, more...)
	return cacheKey{
		digest: d, kind: "regular", parts: func() []part { return append(o.words(), inParts...) },
		// What is mounted to be written to, and counts by its content, counts with all of it, or is handed on as it is.
		whole: func(out, in int) bool { return in < len(whole) && (whole[in] || o.inputOfOutput(out) == in) },
	}, err
}

const mountedFiles = "files"

// inputOfOutput is the input that an output began as; -1 for none.
func (o *execOp) inputOfOutput(out int) int {
	for _, m := range o.op.Mounts {
		if hasOutput(m) && int(m.Output) == out {
			return int(inputOf(m))
		}
	}
	return -1
}

// input is what the command depends on in what is mounted: the files that it sees, if it cannot hand on others.
func (o *execOp) input(ctx context.Context, m *pb.Mount, in result) (part, error) {
	byContent := !hasOutput(m) || m.Readonly
	if in.Local == nil && (in.lazy || m.Dest == pb.RootMount || !byContent || m.ContentCache == pb.MountContentCache_OFF) {
		return part{name: "what it stands on", value: in.identity().String(), input: int(m.Input) + 1, whole: true}, nil
	}
	selector := m.Selector
	if !byContent {
		selector = "/"
	}
	d, err := o.j.treeDigest(ctx, in, selector)
	return part{name: mountedFiles, value: d.String(), input: int(m.Input) + 1}, err
}

// words are what of the command a person may have changed.
func (o *execOp) words() []part {
	meta := o.op.Meta
	parts := []part{{name: "the command", value: strings.Join(meta.Args, "\x00")}}
	for _, env := range meta.Env {
		name, value, _ := strings.Cut(env, "=")
		parts = append(parts, part{name: name, value: value})
	}
	mounts := make([]string, 0, len(o.op.Mounts))
	for _, m := range o.op.Mounts {
		mounts = append(mounts, fmt.Sprintf("%s %s %v", m.MountType, m.Dest, m.Readonly))
	}
	return append(parts,
		part{name: "the user", value: meta.User}, part{name: "the working directory", value: meta.Cwd},
		part{name: "its mounts", value: strings.Join(mounts, ",")},
		part{name: "its network or security mode", value: o.op.Network.String() + " " + o.op.Security.String()},
		part{name: "the host name", value: meta.Hostname},
	)
}

func (o *execOp) run(ctx context.Context, t *track, inputs []result) ([]result, error) {
	if o.j.b.cfg.Commands == nil {
		return nil, fmt.Errorf("commands cannot be run here: %w", errdefs.ErrNotImplemented)
	}
	platform := platformOf(o.v.op)
	if runstep.Emulated(platform) {
		t.say("commands for %s run under an emulator on this machine: expect them to be many times slower", platforms.Format(platform))
	}
	release, err := o.j.b.execSlots.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	mounts, unstable, err := o.mounts(ctx, inputs)
	if err != nil {
		return nil, err
	}
	devices, err := o.j.devices()
	if err != nil {
		return nil, err
	}
	committed, err := o.j.b.cfg.Commands.Run(ctx, runstep.Request{
		ID: newID(), Op: o.op, Mounts: mounts, Platform: &platform, Secrets: o.secret, SSH: o.agent,
		Output: t.log(1), Notice: func(line string) { t.say("%s", line) },
		HostNetwork: o.j.granted("network.host"), Insecure: o.j.granted("security.insecure"), Devices: devices,
		Commit: layer.CommitOptions{Hold: o.j.hold},
	})
	if err != nil {
		return nil, o.explain(err)
	}
	outs, err := o.outputs(mounts, committed)
	if err != nil {
		return nil, err
	}
	if !unstable {
		if unstable, err = o.disturbed(ctx, mounts, inputs); err != nil {
			return nil, err
		}
	}
	for i := range outs {
		outs[i].unstable = unstable
	}
	if unstable {
		t.say("files of the context changed while they were used; this step will run again next time")
	}
	return outs, nil
}

// disturbed says whether a directory of the client that was mounted as it lies was changed since its files were digested.
func (o *execOp) disturbed(ctx context.Context, mounts []runstep.Mount, inputs []result) (bool, error) {
	for _, m := range mounts {
		if m.Source.Local == nil {
			continue
		}
		in := inputs[m.Input]
		same, err := o.j.b.files.Unchanged(ctx, below(in, m.Selector), in.Source)
		if err != nil {
			return false, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
		if !same {
			return true, nil
		}
	}
	return false, nil
}

// mounts are what the inputs hold. A directory of the client is mounted as it lies where the command only reads it.
func (o *execOp) mounts(ctx context.Context, inputs []result) (mounts []runstep.Mount, unstable bool, err error) {
	mounts = make([]runstep.Mount, len(o.op.Mounts))
	for i, m := range o.op.Mounts {
		mounts[i].Mount = m
		if inputOf(m) < 0 {
			continue
		}
		in := inputs[m.Input]
		if l := in.Local; l != nil && m.Dest != pb.RootMount && !hasOutput(m) {
			mounts[i].Source.Local = &runstep.Local{Dir: l.Dir, Filter: l.Filter}
			continue
		}
		layers, changed, err := o.j.stack(ctx, in)
		if err != nil {
			return nil, false, err
		}
		mounts[i].Source.Layers, unstable = layers, unstable || changed
	}
	return mounts, unstable, nil
}

// layers makes a stack of layers of any result.
func (j *job) layers(ctx context.Context, in result) ([]digest.Digest, error) {
	layers, _, err := j.stack(ctx, in)
	return layers, err
}

// stack is layers that also says whether a directory of the client changed while it was copied.
func (j *job) stack(ctx context.Context, in result) (layers []digest.Digest, changed bool, err error) {
	if in.Local == nil {
		return in.Layers, false, nil
	}
	r, err := j.b.files.Layers(ctx, in.Source, j.hold)
	if err != nil || len(r.Outputs) == 0 {
		return nil, false, err
	}
	return r.Outputs[0].Layers, r.Unstable, nil
}

// outputs puts what was committed on top of what was mounted.
func (o *execOp) outputs(mounts []runstep.Mount, committed []layer.Committed) ([]result, error) {
	var outs []result
	for _, m := range mounts {
		if !hasOutput(m.Mount) {
			continue
		}
		for len(outs) <= int(m.Output) {
			outs = append(outs, result{none: true})
		}
		if int(m.Output) >= len(committed) {
			return nil, fmt.Errorf("the mount at %s gave no result", m.Dest)
		}
		made := committed[m.Output].DiffID
		if made == "" {
			made = layer.Empty // a row of the image's history stands for it
		}
		layers := append(slices.Clip(m.Source.Layers), made)
		outs[m.Output] = result{Source: fileop.Source{Layers: layers}}
	}
	return outs, nil
}

func (o *execOp) secret(ctx context.Context, id string) ([]byte, error) {
	if o.j.req.Session == nil {
		return nil, fmt.Errorf("secret %s: no client: %w", id, errdefs.ErrNotFound)
	}
	return o.j.req.Session.Secret(ctx, id)
}

func (o *execOp) agent(ctx context.Context, id string) (net.Conn, error) {
	if o.j.req.Session == nil {
		return nil, fmt.Errorf("ssh agent %s: no client: %w", id, errdefs.ErrNotFound)
	}
	return o.j.req.Session.SSH(ctx, id)
}

// explain makes a failed command's error one that says all about it.
func (o *execOp) explain(err error) error {
	var exit *runstep.ExitError
	if !errors.As(err, &exit) {
		return &StepError{Vertex: o.v.digest, Name: o.v.name, Command: command(o.op), ExitCode: -1, Err: err}
	}
	return &StepError{
		Vertex: o.v.digest, Name: o.v.name, Command: command(o.op), ExitCode: exit.Code, Tail: []byte(exit.Tail), Try: advice(exit),
		Err: &gwpb.ExitError{ExitCode: uint32(exit.Code), Err: err}, //nolint:gosec // 0 to 255.
	}
}

// advice is what a person can do about a command that failed, where its status says so.
func advice(e *runstep.ExitError) string {
	switch {
	case e.OOMKilled:
		return "give the build more memory (--memory), or let the command use less"
	case e.Code == 127:
		return "see whether the program is in the image and on the PATH of this stage"
	case e.Code == 126:
		return "see whether the file may be executed and is for this processor"
	}
	return ""
}
