package build

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxVertices bounds a graph: definitions come from clients.
const maxVertices = 100_000

// vertex is one operation of a graph. It does not change once loaded.
type vertex struct {
	digest digest.Digest // of the marshalled operation; progress and errors name it by this
	op     *pb.Op
	meta   *pb.OpMetadata
	inputs []edge
	name   string
	source *pb.Locations // where it was written; nil means unknown
	infos  []*pb.SourceInfo
}

// edge is one output of a vertex.
type edge struct {
	vertex *vertex
	index  int
}

// load decodes a definition and returns the edge that it ends in; a definition of nothing is the empty file system, which
// is an edge without a vertex. Operations name their inputs by digest, so there can be no cycle.
func load(def *pb.Definition) (edge, error) {
	if def == nil || len(def.Def) == 0 {
		return edge{}, nil
	}
	if len(def.Def) > maxVertices {
		return edge{}, fmt.Errorf("a build graph of %d operations: %w", len(def.Def), errdefs.ErrInvalidArgument)
	}
	l := loader{def: def, ops: make(map[digest.Digest]*pb.Op, len(def.Def)), made: make(map[digest.Digest]*vertex, len(def.Def))}
	var last digest.Digest
	for i, raw := range def.Def {
		op := new(pb.Op)
		if err := op.UnmarshalVT(raw); err != nil {
			return edge{}, fmt.Errorf("operation %d of the build graph: %w: %w", i, err, errdefs.ErrInvalidArgument)
		}
		last = digest.FromBytes(raw)
		l.ops[last] = op
	}
	end := l.ops[last]
	if end.Op != nil || len(end.Inputs) != 1 {
		// Old clients end with the operation itself.
		v, err := l.vertex(last)
		return edge{vertex: v}, err
	}
	return l.input(end.Inputs[0])
}

type loader struct {
	def  *pb.Definition
	ops  map[digest.Digest]*pb.Op
	made map[digest.Digest]*vertex
}

func (l *loader) input(in *pb.Input) (edge, error) {
	v, err := l.vertex(digest.Digest(in.Digest))
	if err == nil && (in.Index < 0 || in.Index > 1<<16) {
		err = fmt.Errorf("output %d of %s: %w", in.Index, in.Digest, errdefs.ErrInvalidArgument)
	}
	return edge{vertex: v, index: int(in.Index)}, err
}

// vertex makes the vertex with what it stands on. The recursion is as deep as the graph, which Go's stacks bear.
func (l *loader) vertex(d digest.Digest) (*vertex, error) {
	if v, ok := l.made[d]; ok {
		return v, nil
	}
	op, ok := l.ops[d]
	if !ok {
		return nil, fmt.Errorf("the build graph lacks the operation %s: %w", d, errdefs.ErrInvalidArgument)
	}
	v := &vertex{digest: d, op: op, meta: l.def.Metadata[d.String()]}
	if v.meta == nil {
		v.meta = new(pb.OpMetadata)
	}
	if err := supported(v.meta); err != nil {
		return nil, err
	}
	if s := l.def.Source; s != nil {
		v.source, v.infos = s.Locations[d.String()], s.Infos
	}
	for _, in := range op.Inputs {
		e, err := l.input(in)
		if err != nil {
			return nil, err
		}
		v.inputs = append(v.inputs, e)
	}
	if err := check(v); err != nil {
		return nil, fmt.Errorf("operation %s: %w: %w", d, err, errdefs.ErrInvalidArgument)
	}
	v.name = nameOf(v)
	l.made[d] = v
	return v, nil
}

// knownCaps is made once: the list is long.
var knownCaps = sync.OnceValue(func() apicaps.CapSet { return pb.Caps.CapSet(pb.Caps.All()) })

// supported refuses an operation that needs what this solver does not know.
func supported(meta *pb.OpMetadata) error {
	if len(meta.Caps) == 0 {
		return nil
	}
	known := knownCaps()
	for c := range meta.Caps {
		if err := known.Supports(apicaps.CapID(c)); err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrNotImplemented)
		}
	}
	return nil
}

// check refuses operations whose numbers point at nothing, so that nobody after it needs to look.
func check(v *vertex) error {
	in := func(n int64) error {
		if n < -1 || n >= int64(len(v.inputs)) {
			return fmt.Errorf("input %d of %d", n, len(v.inputs))
		}
		return nil
	}
	switch o := v.op.Op.(type) {
	case *pb.Op_Source:
		if o.Source == nil || o.Source.Identifier == "" {
			return fmt.Errorf("a source without identifier")
		}
	case *pb.Op_Exec:
		return checkExec(o.Exec, in)
	case *pb.Op_File:
		return checkFile(o.File, len(v.inputs))
	case *pb.Op_Merge:
		if o.Merge == nil {
			return fmt.Errorf("an empty merge")
		}
		for _, i := range o.Merge.Inputs {
			if err := in(i.GetInput()); err != nil {
				return err
			}
		}
	case *pb.Op_Diff:
		if o.Diff == nil || o.Diff.Lower == nil || o.Diff.Upper == nil {
			return fmt.Errorf("a diff of nothing")
		}
		if err := in(o.Diff.Lower.Input); err != nil {
			return err
		}
		return in(o.Diff.Upper.Input)
	case *pb.Op_Build:
		return fmt.Errorf("nested builds are not supported")
	case *pb.Op_Passthrough:
		for _, i := range o.Passthrough.GetOutputs() {
			if err := in(i); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("of unknown kind %T", v.op.Op)
	}
	return nil
}

func checkExec(e *pb.ExecOp, in func(int64) error) error {
	if e == nil || e.Meta == nil || len(e.Meta.Args) == 0 {
		return fmt.Errorf("a command without arguments")
	}
	outputs := map[int64]bool{}
	root := false
	for _, m := range e.Mounts {
		if err := in(inputOf(m)); err != nil {
			return fmt.Errorf("mount %s: %w", m.Dest, err)
		}
		root = root || m.Dest == pb.RootMount
		if !hasOutput(m) {
			continue
		}
		if outputs[m.Output] || m.Output >= int64(len(e.Mounts)) {
			return fmt.Errorf("mount %s: output %d", m.Dest, m.Output)
		}
		outputs[m.Output] = true
	}
	if !root {
		return fmt.Errorf("a command without a root file system")
	}
	return nil
}

// inputOf is the input that is mounted, -1 for none. Frontends leave the number of mounts that have none at 0.
func inputOf(m *pb.Mount) int64 {
	if m.MountType == pb.MountType_BIND || m.MountType == pb.MountType_CACHE {
		return m.Input
	}
	return -1
}

// hasOutput says whether what is in the mount afterwards is a result. Frontends leave the number of other mounts at 0.
func hasOutput(m *pb.Mount) bool { return m.MountType == pb.MountType_BIND && m.Output >= 0 }

func checkFile(f *pb.FileOp, inputs int) error {
	if f == nil || len(f.Actions) == 0 {
		return fmt.Errorf("no file actions")
	}
	for i, a := range f.Actions {
		most := int64(inputs + i) // inputs first, then the results of the actions before
		if a.Input < -1 || a.Input >= most || a.SecondaryInput < -1 || a.SecondaryInput >= most {
			return fmt.Errorf("file action %d: inputs %d and %d of %d", i, a.Input, a.SecondaryInput, most)
		}
		if a.Output < -1 || a.Output > int64(len(f.Actions)) {
			return fmt.Errorf("file action %d: output %d", i, a.Output)
		}
	}
	return nil
}

// platformOf is the platform that the vertex is for; the host's if it names none.
func platformOf(op *pb.Op) ocispec.Platform {
	if p := op.Platform; p != nil {
		return platforms.Normalize(ocispec.Platform{
			OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
		})
	}
	return platforms.Normalize(platforms.DefaultSpec())
}

// nameOf is what progress calls the vertex.
func nameOf(v *vertex) string {
	if name := v.meta.Description["llb.customname"]; name != "" {
		return name
	}
	switch o := v.op.Op.(type) {
	case *pb.Op_Source:
		return o.Source.Identifier
	case *pb.Op_Exec:
		return strings.Join(o.Exec.Meta.Args, " ")
	case *pb.Op_File:
		names := make([]string, 0, len(o.File.Actions))
		for _, a := range o.File.Actions {
			names = append(names, actionName(a))
		}
		return strings.Join(names, ", ")
	case *pb.Op_Merge:
		return fmt.Sprintf("merge %d trees", len(o.Merge.Inputs))
	case *pb.Op_Diff:
		return "diff of two trees"
	}
	return "step"
}

func actionName(a *pb.FileAction) string {
	switch x := a.Action.(type) {
	case *pb.FileAction_Copy:
		return fmt.Sprintf("copy %s %s", x.Copy.GetSrc(), x.Copy.GetDest())
	case *pb.FileAction_Mkfile:
		return "mkfile " + x.Mkfile.GetPath()
	case *pb.FileAction_Mkdir:
		return "mkdir " + x.Mkdir.GetPath()
	case *pb.FileAction_Rm:
		return "rm " + x.Rm.GetPath()
	case *pb.FileAction_Symlink:
		return "symlink " + x.Symlink.GetNewpath()
	}
	return "file action"
}

// internal says whether the step is not one that the user wrote.
func (v *vertex) internal() bool {
	return strings.HasPrefix(v.name, "[internal]") || strings.HasPrefix(v.name, "[auth]")
}

// each calls fn for the vertex and all below it, once each, inputs first.
func each(v *vertex, seen map[*vertex]bool, fn func(*vertex)) {
	if v == nil || seen[v] {
		return
	}
	seen[v] = true
	for _, in := range v.inputs {
		each(in.vertex, seen, fn)
	}
	fn(v)
}

// digests of the vertices that v stands on.
func (v *vertex) inputDigests() []digest.Digest {
	all := make([]digest.Digest, 0, len(v.inputs))
	for _, in := range v.inputs {
		if !slices.Contains(all, in.vertex.digest) {
			all = append(all, in.vertex.digest)
		}
	}
	return all
}

// line is where the vertex was written; one that was not is behind all that were.
func (v *vertex) line() int32 {
	if v.source != nil {
		for _, l := range v.source.Locations {
			for _, r := range l.Ranges {
				if r.GetStart() != nil {
					return r.Start.Line
				}
			}
		}
	}
	return math.MaxInt32
}
