package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// operation is what a kind of vertex can do.
type operation interface {
	// key is what the results depend on. Results without a key are found anew in each build, at little cost.
	key(ctx context.Context, t *track, inputs []result) (cacheKey, error)
	// run makes the results, one for each output.
	run(ctx context.Context, t *track, inputs []result) ([]result, error)
}

// cacheKey names a result in the cache.
type cacheKey struct {
	digest digest.Digest
	// kind is what buildx calls the record.
	kind string
	// parts explain the key: what changed is the reason why a step ran. It is called only when somebody wants to know.
	parts func() []part
	// whole says whether an input counts in the key with all that it holds, or with all that is in an output: only then may a record
	// tell the output as layers on that input, as an input that differs in what did not count gives the same key. Nil: all do.
	whole func(out, in int) bool
	// cached says of something without a key that it was there already.
	cached bool
}

// part is one thing that a key depends on.
type part struct {
	// name is for people: "the command", "the build argument VERSION". value is compared with that of the last build.
	name, value string
	// files lists what value is the digest of, if it is one of files.
	files func(context.Context, func(name string, d digest.Digest) bool) error
	// whole says that value names all that the input holds.
	whole bool
	// input is the number of the input whose result value is, counted from 1; 0 for none.
	input int
}

// operation finds who runs the vertex.
func (j *job) operation(v *vertex) (operation, error) {
	switch o := v.op.Op.(type) {
	case *pb.Op_Source:
		return j.sourceOperation(v, o.Source)
	case *pb.Op_Exec:
		return &execOp{j: j, v: v, op: o.Exec}, nil
	case *pb.Op_File:
		return &fileOp{j: j, v: v, op: o.File}, nil
	case *pb.Op_Merge:
		return &mergeOp{j: j, op: o.Merge}, nil
	case *pb.Op_Diff:
		return &diffOp{j: j, op: o.Diff}, nil
	case *pb.Op_Passthrough:
		return passOp{o.Passthrough}, nil
	}
	return nil, fmt.Errorf("a step of kind %T: %w", v.op.Op, errdefs.ErrNotImplemented)
}

// keyOf hashes an operation, with all in it that does not change the result taken out, and what it stands on.
func keyOf(kind string, op proto.Message, more ...string) (digest.Digest, error) {
	h := sha256.New()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(op)
	if err != nil {
		return "", err
	}
	_, _ = fmt.Fprintf(h, "%s\n%d\n", kind, len(raw)) // A hash does not fail.
	h.Write(raw)
	for _, m := range more {
		_, _ = fmt.Fprintf(h, "\n%d\n%s", len(m), m)
	}
	return digest.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), nil
}
