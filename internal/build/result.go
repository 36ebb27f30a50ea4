package build

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fileop"
)

// result is the tree that an output of a vertex holds: layers, or a directory of the client as it lies.
type result struct {
	fileop.Source
	// chain is identity's answer, where it is known.
	chain digest.Digest
	// lazy says that there is nothing but the identity: it stands for what was not made.
	lazy bool
	// none says that the output was not made: nobody asked for it.
	none bool
	// fresh says that this build made it, so a step that stands on it had no choice but to run.
	fresh bool
	// from is the key of the record it comes from, if one does.
	from digest.Digest
	// unstable says that what is here may not be what its key says: nothing made of it is remembered.
	unstable bool
}

// identity tells a stack of layers from others. Two steps that made the same bytes have the same, so what stands on them
// need not run again.
func (r result) identity() digest.Digest {
	if r.chain != "" {
		return r.chain
	}
	return extend("", r.Layers)
}

// extend is the identity of a stack with more layers on it: that of the stack below, and of each layer in turn.
func extend(chain digest.Digest, layers []digest.Digest) digest.Digest {
	if chain == "" {
		chain = "empty"
	}
	for _, l := range layers {
		sum := sha256.Sum256([]byte(chain + "\n" + l))
		chain = digest.Digest("sha256:" + hex.EncodeToString(sum[:]))
	}
	return chain
}

// outputOf says what layers are in terms of the inputs: the input that most of them come from, of those that may be told, and what is
// on top.
func outputOf(layers []digest.Digest, inputs []result, may func(in int) bool) output {
	o := output{Base: -1}
	best := 0
	for i, in := range inputs {
		n := len(in.Layers)
		if in.Local != nil || n == 0 || n <= best || n > len(layers) || !may(i) || !prefixed(layers, in.Layers) {
			continue
		}
		o.Base, best = i, n
	}
	o.Added = layers[best:]
	return o
}

func prefixed(layers, prefix []digest.Digest) bool {
	for i, d := range prefix {
		if layers[i] != d {
			return false
		}
	}
	return true
}

// resultOf is the inverse of outputOf.
func (o output) resultOf(inputs []result) (result, bool) {
	if o.None {
		return result{none: true}, true
	}
	var r result
	if o.Base >= len(inputs) {
		return r, false
	}
	if o.Base >= 0 {
		base := inputs[o.Base].Layers
		r.Layers = make([]digest.Digest, 0, len(base)+len(o.Added))
		r.Layers = append(r.Layers, base...)
		r.chain = inputs[o.Base].identity()
	}
	r.Layers = append(r.Layers, o.Added...)
	r.chain = extend(r.chain, o.Added)
	return r, true
}
