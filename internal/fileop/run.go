package fileop

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/treesum"
)

// Ops runs file operations. It is safe for concurrent use.
type Ops struct {
	layers *layer.Store
	trees  *treesum.Cache

	mu   sync.Mutex               // guards last
	last map[string]digest.Digest // what a copy that was run before became last, by its key
}

// New makes an Ops of a store and stat caches.
func New(layers *layer.Store, trees *treesum.Cache) *Ops {
	return &Ops{layers: layers, trees: trees, last: make(map[string]digest.Digest)}
}

// Result is what an operation made.
type Result struct {
	// Outputs by number.
	Outputs []Output
	// Unstable says that files of a Local changed between the scan and the copy: the result is good, but must not be
	// remembered under a key that was made of the scan.
	Unstable bool
}

// Output is one resulting tree.
type Output struct {
	// Layers are the whole stack, the lowest first. If the operation changed nothing, the last one is layer.Empty.
	Layers []digest.Digest
	// Added are the topmost ones, which this operation made. None, if it changed nothing.
	Added []layer.Committed
}

// idPrefix is how the names of writable layers begin that operations use; what is left of them after a crash is of no use
// to anybody.
const idPrefix = "build-file-"

// run is one operation under way.
type run struct {
	o        *Ops
	op       *pb.FileOp
	inputs   []Source
	hold     *layer.Hold
	uses     map[int]int // how many actions, and outputs, need the result of each action
	done     map[int]*state
	unstable bool
	key      string            // of a copy that may be remembered; see repeat
	copied   *treesum.Selected // what the last copy took
}

// state is the result of an action: committed, or still being written to.
type state struct {
	out  Output
	dest *dest // nil once committed
}

// Run runs the actions of op. What it commits is held by hold; the inputs' layers must be held by the caller.
func (o *Ops) Run(ctx context.Context, op *pb.FileOp, inputs []Source, hold *layer.Hold) (res *Result, err error) {
	r := &run{o: o, op: op, inputs: inputs, hold: hold, uses: make(map[int]int), done: make(map[int]*state)}
	outputs, err := r.check()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.drop(ctx)) }()
	if r.key = r.repeatKey(); r.key != "" {
		out, err := r.repeat(ctx)
		if err != nil {
			return nil, err
		}
		if out != nil {
			return &Result{Outputs: []Output{*out}, Unstable: r.unstable}, nil
		}
	}
	res = new(Result)
	for _, action := range outputs {
		s, err := r.action(ctx, action)
		if err != nil {
			return nil, err
		}
		if err := r.commit(ctx, s); err != nil {
			return nil, err
		}
		res.Outputs = append(res.Outputs, s.out)
	}
	r.remember(res.Outputs[0])
	res.Unstable = r.unstable
	return res, nil
}

// check refuses numbers that point at nothing, and returns the action for each output.
func (r *run) check() ([]int, error) {
	n := len(r.inputs)
	outputs := map[int64]int{}
	for i, a := range r.op.Actions {
		for _, in := range append(ownerInputs(a), a.Input, a.SecondaryInput) {
			if in < -1 || in >= int64(n+i) {
				return nil, fmt.Errorf("file action %d: there is no input %d: %w", i, in, errdefs.ErrInvalidArgument)
			}
			if in >= int64(n) {
				r.uses[int(in)-n]++
			}
		}
		if a.Output < 0 {
			continue
		}
		if _, ok := outputs[a.Output]; ok {
			return nil, fmt.Errorf("file action %d: output %d comes twice: %w", i, a.Output, errdefs.ErrInvalidArgument)
		}
		outputs[a.Output] = i
		r.uses[i]++
	}
	list := make([]int, len(outputs))
	for i := range list {
		action, ok := outputs[int64(i)]
		if !ok {
			return nil, fmt.Errorf("file operation without output %d: %w", i, errdefs.ErrInvalidArgument)
		}
		list[i] = action
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("file operation without outputs: %w", errdefs.ErrInvalidArgument)
	}
	return list, nil
}

func ownerInputs(a *pb.FileAction) []int64 {
	var list []int64
	o := ownerOf(a)
	for _, u := range []*pb.UserOpt{o.GetUser(), o.GetGroup()} {
		if by := u.GetByName(); by != nil {
			list = append(list, by.Input)
		}
	}
	return list
}

// action runs one action, and those that it stands on, once.
func (r *run) action(ctx context.Context, i int) (*state, error) {
	if s := r.done[i]; s != nil {
		return s, nil
	}
	a := r.op.Actions[i]
	s, err := r.base(ctx, int(a.Input))
	if err != nil {
		return nil, err
	}
	if err := r.apply(ctx, s, a); err != nil {
		return nil, err
	}
	r.done[i] = s
	return s, nil
}

// base is the tree that an action writes to: what an action before has made, if nobody else needs that, or a new layer on
// top of an input.
func (r *run) base(ctx context.Context, in int) (*state, error) {
	if i := in - len(r.inputs); i >= 0 {
		s, err := r.action(ctx, i)
		if err != nil {
			return nil, err
		}
		if r.uses[i] == 1 && s.dest != nil {
			return s, nil
		}
	}
	below, err := r.output(ctx, in)
	if err != nil {
		return nil, err
	}
	s := &state{out: Output{Layers: slices.Clone(below.Layers), Added: slices.Clone(below.Added)}}
	s.dest, err = r.o.newDest(ctx, below.Layers)
	return s, err
}

// output is an input, or the committed result of an action, as layers.
func (r *run) output(ctx context.Context, in int) (Output, error) {
	if in < 0 {
		return Output{}, nil
	}
	if i := in - len(r.inputs); i >= 0 {
		s, err := r.action(ctx, i)
		if err == nil {
			err = r.commit(ctx, s)
		}
		if err != nil {
			return Output{}, err
		}
		return s.out, nil
	}
	src := r.inputs[in]
	if src.Local == nil {
		return Output{Layers: src.Layers}, nil
	}
	res, err := r.o.Layers(ctx, src, r.hold)
	if err != nil {
		return Output{}, err
	}
	r.unstable = r.unstable || res.Unstable
	return res.Outputs[0], nil
}

// source is an input, or the committed result of an action, for reading.
func (r *run) source(ctx context.Context, in int) (Source, error) {
	if in >= 0 && in < len(r.inputs) {
		return r.inputs[in], nil
	}
	out, err := r.output(ctx, in)
	return Source{Layers: out.Layers}, err
}

// commit makes a layer of what was written.
func (r *run) commit(ctx context.Context, s *state) error {
	if s.dest == nil {
		return nil
	}
	d := s.dest
	s.dest = nil
	made, err := d.commit(ctx, r.hold)
	if err != nil {
		return err
	}
	if made.DiffID == "" {
		s.out.Layers = append(s.out.Layers, layer.Empty)
		return nil
	}
	s.out.Layers, s.out.Added = append(s.out.Layers, made.DiffID), append(s.out.Added, made)
	return nil
}

// drop removes what was not committed.
func (r *run) drop(ctx context.Context) error {
	var errs []error
	for _, s := range r.done {
		if s.dest != nil {
			errs = append(errs, s.dest.drop(context.WithoutCancel(ctx)))
			s.dest = nil
		}
	}
	return errors.Join(errs...)
}

// apply runs one action on a tree. On failure the tree is dropped.
func (r *run) apply(ctx context.Context, s *state, a *pb.FileAction) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.dest.drop(context.WithoutCancel(ctx)))
			s.dest = nil
		}
	}()
	who, err := r.owner(ctx, ownerOf(a))
	if err != nil {
		return err
	}
	switch x := a.Action.(type) {
	case *pb.FileAction_Mkdir:
		return s.dest.mkdirAction(x.Mkdir, who)
	case *pb.FileAction_Mkfile:
		return s.dest.mkfile(x.Mkfile, who)
	case *pb.FileAction_Symlink:
		return s.dest.symlink(x.Symlink, who)
	case *pb.FileAction_Rm:
		return s.dest.rm(x.Rm)
	case *pb.FileAction_Copy:
		return r.copy(ctx, s.dest, a, who)
	}
	return fmt.Errorf("file action of unknown kind %T: %w", a.Action, errdefs.ErrNotImplemented)
}

// Layers makes a stack of layers of any source: a Local is copied into a layer.
func (o *Ops) Layers(ctx context.Context, src Source, hold *layer.Hold) (*Result, error) {
	if src.Local == nil {
		return &Result{Outputs: []Output{{Layers: src.Layers}}}, nil
	}
	everything := &pb.FileOp{Actions: []*pb.FileAction{{
		Input: -1, SecondaryInput: 0, Output: 0,
		Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{
			Src: "/", Dest: "/", Mode: -1, Timestamp: -1, DirCopyContents: true, CreateDestPath: true,
		}},
	}}}
	return o.Run(ctx, everything, []Source{src}, hold)
}

func newID() string { return idPrefix + strings.ToLower(rand.Text()) }
