package build

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// graph wraps operations into a definition that ends in the last one.
func graphs(ops ...*pb.Op) *pb.Definition {
	def := &pb.Definition{}
	var last digest.Digest
	for _, op := range append(ops, nil) {
		if op == nil {
			op = &pb.Op{Inputs: []*pb.Input{{Digest: last.String()}}}
		}
		raw, err := op.MarshalVT()
		if err != nil {
			panic(err)
		}
		def.Def, last = append(def.Def, raw), digest.FromBytes(raw)
	}
	return def
}

func TestHostileGraphs(t *testing.T) {
	exec := func(e *pb.ExecOp) *pb.Op { return &pb.Op{Op: &pb.Op_Exec{Exec: e}} }
	file := func(a *pb.FileAction) *pb.Op {
		return &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{a}}}}
	}
	meta := &pb.Meta{Args: []string{"true"}}
	root := func(in, out int64) []*pb.Mount { return []*pb.Mount{{Dest: "/", Input: in, Output: out}} }
	for name, def := range map[string]*pb.Definition{
		"no operation":          {Def: [][]byte{{0xff}}},
		"lacking input":         graphs(&pb.Op{Inputs: []*pb.Input{{Digest: "sha256:00"}}, Op: &pb.Op_Merge{Merge: &pb.MergeOp{}}}),
		"empty source":          graphs(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{}}}),
		"no command":            graphs(exec(&pb.ExecOp{})),
		"no root":               graphs(exec(&pb.ExecOp{Meta: meta})),
		"mount of nothing":      graphs(exec(&pb.ExecOp{Meta: meta, Mounts: root(5, 0)})),
		"output far away":       graphs(exec(&pb.ExecOp{Meta: meta, Mounts: root(-1, 1<<40)})),
		"output twice":          graphs(exec(&pb.ExecOp{Meta: meta, Mounts: append(root(-1, 0), &pb.Mount{Dest: "/x", Input: -1})})),
		"no actions":            graphs(&pb.Op{Op: &pb.Op_File{File: &pb.FileOp{}}}),
		"action on nothing":     graphs(file(&pb.FileAction{Input: 3, SecondaryInput: -1})),
		"action on itself":      graphs(file(&pb.FileAction{Input: 0, SecondaryInput: -1})),
		"action's output":       graphs(file(&pb.FileAction{Input: -1, SecondaryInput: -1, Output: 1 << 40})),
		"merge of nothing":      graphs(&pb.Op{Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 1}}}}}),
		"diff of nothing":       graphs(&pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{}}}),
		"nested build":          graphs(&pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{}}}),
		"end in the wilderness": {Def: [][]byte{}, Metadata: nil, Source: &pb.Source{}},
	} {
		_, err := load(def)
		if name == "end in the wilderness" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	def := graphs(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "local://x"}}})
	def.Metadata = map[string]*pb.OpMetadata{digest.FromBytes(def.Def[0]).String(): {Caps: map[string]bool{"from.the.future": true}}}
	if _, err := load(def); !errdefs.IsNotImplemented(err) {
		t.Errorf("an operation from the future: %v", err)
	}
}

func FuzzGraph(f *testing.F) {
	st := copied(run(llb.Scratch(), "[1/2]", "a", llb.AddSecret("/s")), "[2/2]", "x")
	def, err := st.Marshal(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	seed, err := def.ToPB().MarshalVT()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := new(pb.Definition)
		if d.UnmarshalVT(raw) != nil {
			return
		}
		e, err := load(d)
		if err != nil || e.vertex == nil {
			return
		}
		each(e.vertex, map[*vertex]bool{}, func(v *vertex) {
			_ = v.progress()
			_ = v.line()
			_ = v.locate(errAbandoned)
			platformOf(v.op)
		})
	})
}

func FuzzCache(f *testing.F) {
	good, err := json.Marshal(map[string]any{
		"rootfs":        map[string]any{"diff_ids": []digest.Digest{digest.FromString("a")}},
		"kist.cache.v1": []byte(`{"version":1,"records":[{"key":"` + digest.FromString("k").String() + `","outputs":[{"base":-1,"added":["` + digest.FromString("a").String() + `"]}]}]}`),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, layers, err := parseCache(raw, []ocispec.Descriptor{{}})
		if err != nil || len(file.Records) == 0 {
			return
		}
		if len(layers) > 1 {
			t.Errorf("%d layers of one blob", len(layers))
		}
		for _, r := range file.Records {
			for _, o := range r.Outputs {
				_, _ = o.resultOf([]result{{}})
			}
		}
	})
}

func FuzzFiles(f *testing.F) {
	p := part{files: func(_ context.Context, yield func(string, digest.Digest) bool) error {
		yield("etc/passwd", digest.FromString("x"))
		return nil
	}}
	l, err := p.list(f.Context(), nil)
	if err != nil {
		f.Fatal(err)
	}
	packed := l.packed
	if files, err := unpackFiles(packed); err != nil || len(files) != 1 || files["etc/passwd"] == "" {
		f.Fatalf("%v, %v", files, err)
	}
	f.Add(packed)
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = unpackFiles(raw) })
}
