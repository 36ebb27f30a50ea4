package build

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fileop"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/treesum"
)

// files is what makes trees out of trees; *fileop.Ops.
type files interface {
	Run(ctx context.Context, op *pb.FileOp, inputs []fileop.Source, hold *layer.Hold) (*fileop.Result, error)
	Merge(ctx context.Context, inputs []fileop.Source, hold *layer.Hold) (*fileop.Result, error)
	Diff(ctx context.Context, lower, upper fileop.Source, hold *layer.Hold) (*fileop.Result, error)
	Layers(ctx context.Context, src fileop.Source, hold *layer.Hold) (*fileop.Result, error)
	InputDigest(ctx context.Context, op *pb.FileOp, i int, src fileop.Source) (d digest.Digest, all bool, err error)
	InputFiles(ctx context.Context, op *pb.FileOp, i int, src fileop.Source, yield func(string, digest.Digest) bool) error
	SelectDigest(ctx context.Context, sel treesum.Selection, src fileop.Source) (digest.Digest, error)
	Unchanged(ctx context.Context, sel treesum.Selection, src fileop.Source) (bool, error)
}

func sources(inputs []result) []fileop.Source {
	all := make([]fileop.Source, len(inputs))
	for i, in := range inputs {
		all[i] = in.Source
	}
	return all
}

// made turns what an operation has made into results.
func made(r *fileop.Result) []result {
	outs := make([]result, len(r.Outputs))
	for i, o := range r.Outputs {
		outs[i] = result{Source: fileop.Source{Layers: o.Layers}, unstable: r.Unstable}
	}
	return outs
}

// fileOp is COPY, ADD, WORKDIR and what else changes files without a command.
type fileOp struct {
	j  *job
	v  *vertex
	op *pb.FileOp
}

func (o *fileOp) key(ctx context.Context, _ *track, inputs []result) (cacheKey, error) {
	k := cacheKey{kind: "regular"}
	more, parts := make([]string, 0, len(inputs)), make([]part, 0, len(inputs))
	for i, in := range inputs {
		p, err := o.input(ctx, i, in)
		if err != nil {
			return k, err
		}
		parts = append(parts, p)
		more = append(more, p.value)
	}
	k.parts = func() []part { return append([]part{{name: "the instruction", value: o.words()}}, parts...) }
	k.whole = func(_, in int) bool { return in < len(parts) && parts[in].whole }
	var err error
	k.digest, err = keyOf("file", o.op, more...)
	return k, err
}

// input is what the operation depends on in one of its inputs.
func (o *fileOp) input(ctx context.Context, i int, in result) (part, error) {
	digestOf := func() (digest.Digest, bool, error) { return o.j.b.files.InputDigest(ctx, o.op, i, in.Source) }
	whole := part{name: "what it stands on", value: in.identity().String(), input: i + 1, whole: true}
	selected := part{name: "files", input: i + 1, files: func(ctx context.Context, yield func(string, digest.Digest) bool) error {
		return o.j.b.files.InputFiles(ctx, o.op, i, in.Source, yield)
	}}
	if in.lazy {
		return whole, nil
	}
	if in.Local != nil {
		d, all, err := digestOf()
		if all && err == nil {
			d, err = o.j.b.files.SelectDigest(ctx, treesum.Selection{Path: "/", Root: true}, in.Source)
		}
		selected.value = d.String()
		return selected, err
	}
	// What a stack of layers holds does not change, so that it is looked at only once.
	name, err := keyOf("input "+strconv.Itoa(i)+" of "+whole.value, o.op)
	if err != nil {
		return whole, err
	}
	d, err := o.j.b.cache.contentOf(name.String(), func() (digest.Digest, error) {
		d, all, err := digestOf()
		if all {
			d = wholeTree
		}
		return d, err
	})
	if d == wholeTree || err != nil {
		return whole, err
	}
	selected.value = d.String()
	return selected, nil
}

// wholeTree stands where the digest of a selection would, for an input that counts whole.
const wholeTree = digest.Digest("all")

func (o *fileOp) run(ctx context.Context, t *track, inputs []result) ([]result, error) {
	release, err := o.j.b.fileSlots.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	r, err := o.j.b.files.Run(ctx, o.op, sources(inputs), o.j.hold)
	if err != nil {
		return nil, err
	}
	if r.Unstable {
		t.say("files of the context changed while they were copied; this step will run again next time")
	}
	return made(r), nil
}

// words are the actions for comparison with the last build's.
func (o *fileOp) words() string {
	all := make([]string, 0, len(o.op.Actions))
	for _, a := range o.op.Actions {
		all = append(all, actionName(a))
	}
	return strings.Join(all, ", ")
}

// mergeOp lays trees on each other.
type mergeOp struct {
	j  *job
	op *pb.MergeOp
}

// key is none: stacking is free.
func (o *mergeOp) key(_ context.Context, _ *track, inputs []result) (cacheKey, error) {
	k := cacheKey{cached: true}
	for _, in := range inputs {
		k.cached = k.cached && !in.fresh
	}
	return k, nil
}

func (o *mergeOp) run(ctx context.Context, _ *track, inputs []result) ([]result, error) {
	picked := make([]fileop.Source, 0, len(o.op.Inputs))
	for _, i := range o.op.Inputs {
		if i.GetInput() >= 0 {
			picked = append(picked, inputs[i.GetInput()].Source)
		}
	}
	r, err := o.j.b.files.Merge(ctx, picked, o.j.hold)
	if err != nil {
		return nil, err
	}
	return carry(made(r), inputs), nil
}

// diffOp is what one tree has over another.
type diffOp struct {
	j  *job
	op *pb.DiffOp
}

func (o *diffOp) key(ctx context.Context, _ *track, inputs []result) (cacheKey, error) {
	k := cacheKey{kind: "regular"}
	more, parts := make([]string, 0, len(inputs)), make([]part, 0, len(inputs))
	for i, in := range inputs {
		p := part{name: "what it stands on", value: in.identity().String(), input: i + 1}
		if in.Local != nil {
			d, err := o.j.treeDigest(ctx, in, "/")
			if err != nil {
				return k, err
			}
			p = part{name: "files", value: d.String(), input: i + 1}
		}
		parts = append(parts, p)
		more = append(more, p.value)
	}
	k.parts = func() []part { return parts }
	var err error
	k.digest, err = keyOf("diff", o.op, more...)
	return k, err
}

func (o *diffOp) run(ctx context.Context, _ *track, inputs []result) ([]result, error) {
	pick := func(i int64) fileop.Source {
		if i < 0 {
			return fileop.Source{}
		}
		return inputs[i].Source
	}
	r, err := o.j.b.files.Diff(ctx, pick(o.op.Lower.Input), pick(o.op.Upper.Input), o.j.hold)
	if err != nil {
		return nil, err
	}
	return carry(made(r), inputs), nil
}

// passOp hands on its inputs.
type passOp struct{ op *pb.PassthroughOp }

func (passOp) key(context.Context, *track, []result) (cacheKey, error) {
	return cacheKey{cached: true}, nil
}

func (o passOp) run(_ context.Context, _ *track, inputs []result) ([]result, error) {
	outs := make([]result, len(o.op.Outputs))
	for i, n := range o.op.Outputs {
		if n >= 0 {
			outs[i] = inputs[n]
		}
	}
	return outs, nil
}

// carry hands the inputs' doubts and freshness on.
func carry(outs, inputs []result) []result {
	for i := range outs {
		for _, in := range inputs {
			outs[i].unstable = outs[i].unstable || in.unstable
			outs[i].fresh = outs[i].fresh || in.fresh
		}
	}
	return outs
}

// below selects what is in a tree below a path.
func below(in result, dir string) treesum.Selection {
	return treesum.Selection{Path: path.Join("/", dir), FollowLinks: true, Root: in.Local != nil}
}

// treeDigest is what is in a tree below a path.
func (j *job) treeDigest(ctx context.Context, in result, dir string) (digest.Digest, error) {
	sel := below(in, dir)
	if in.Local != nil {
		return j.b.files.SelectDigest(ctx, sel, in.Source)
	}
	return j.b.cache.contentOf(fmt.Sprintf("tree %s %s", in.identity(), sel.Path), func() (digest.Digest, error) {
		return j.b.files.SelectDigest(ctx, sel, in.Source)
	})
}
