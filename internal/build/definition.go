package build

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"
)

// A step has a second key in caches that come from elsewhere: its definition. Where the first one names what the step's inputs
// hold, which is known when they were made, the definition names how they are made, down to the images and the files of the
// client. So a cache that has only the last stage's layers spares the stages below: what is copied from them need not be there
// to find the copy.
//
//	FROM golang AS build     definition: what the image is
//	COPY . .                 definition: the files, and that of the step above
//	RUN go build             definition: the command, and that of the step above
//	FROM scratch
//	COPY --from=build /app / found by its definition; nothing above it runs, and golang is not pulled

// definition is the second key of one vertex.
type definition struct {
	done  chan struct{} // closed when what follows is there
	key   digest.Digest // empty: there is none
	parts func() []part // explain the key
	op    operation     // of a source: it knows what the source is
}

// takeDefined takes the step's result from a cache that knows its definition. Of what it stands on, only that is made which its
// layers lie on.
func (j *job) takeDefined(s *step) (bool, error) {
	if s.v.op.GetSource() != nil || !j.wantsDefinitions() {
		return false, nil
	}
	d := j.definition(s.v)
	key := d.key
	if key == "" {
		return false, nil
	}
	s.parts = d.parts // Until the step has a key of its first kind.
	if row, ok := j.b.cache.get(key); ok && len(row.Results) > 0 {
		if taken, err := j.takeRow(s, key, row); taken || err != nil {
			return taken, err
		}
	}
	for _, im := range j.caches() {
		found := im.defined[key]
		if found == nil {
			continue
		}
		row, err := im.fetch(j.ctx, found)
		if err != nil {
			continue // What cannot be fetched is made.
		}
		taken, err := j.takeRow(s, key, row)
		if taken {
			j.b.cache.put(key, row)
		}
		if taken || err != nil {
			return taken, err
		}
	}
	return false, nil
}

// wantsDefinitions says whether any cache knows steps by their definitions: working them out costs time.
func (j *job) wantsDefinitions() bool {
	for _, im := range j.caches() {
		if len(im.defined) > 0 {
			return true
		}
	}
	return j.b.cache.hasDefined()
}

// takeRow makes the step's result of a record that was found by its definition. A record whose layers lay on something else
// than they would now is not taken.
func (j *job) takeRow(s *step, key digest.Digest, row *record) (bool, error) {
	inputs := make([]result, len(s.v.inputs))
	below := make([]*step, len(s.v.inputs))
	for _, o := range row.Outputs {
		if o.None || o.Base < 0 || o.Base >= len(inputs) {
			continue
		}
		in := s.v.inputs[o.Base]
		on, err := j.run(j.ctx, in.vertex)
		if err != nil {
			return false, err
		}
		if in.index >= len(on.outs) || on.outs[in.index].none || on.outs[in.index].unstable || on.outs[in.index].Local != nil {
			return false, nil
		}
		inputs[o.Base], below[o.Base] = on.outs[in.index], on
	}
	if len(row.Results) != len(row.Outputs) {
		return false, nil
	}
	for i, o := range row.Outputs {
		if r, ok := o.resultOf(inputs); !ok || !r.none && r.identity() != row.Results[i] {
			return false, nil
		}
	}
	t := j.progress.begin(s.v)
	s.began, s.key = time.Now(), key
	if !j.take(s, row.Outputs, inputs) {
		s.key = ""
		return false, nil
	}
	for _, on := range below {
		if on != nil {
			s.inputs = append(s.inputs, on)
		}
	}
	s.cached = true
	t.cached()
	s.took = t.end(nil)
	return true, nil
}

// definition is the vertex's second key, empty if it has none: if it, or something below it, is to be made anew in any case.
func (j *job) definition(v *vertex) *definition {
	j.mu.Lock()
	d, ok := j.definitions[v]
	if !ok {
		d = &definition{done: make(chan struct{})}
		j.definitions[v] = d
	}
	j.mu.Unlock()
	if ok {
		<-d.done // There is no cycle in a graph.
		return d
	}
	defer close(d.done)
	if v.meta.IgnoreCache {
		return d
	}
	if op, err := j.operation(v); err == nil { // Who makes the step finds the error, too, and tells it.
		d.op = op
		if k, err := j.define(v, op); err == nil {
			d.key, d.parts = k.digest, k.parts
		}
	}
	return d
}

// knownDefinition is the vertex's second key, if somebody has wanted to know it; otherwise nil.
func (j *job) knownDefinition(v *vertex) *definition {
	j.mu.Lock()
	d := j.definitions[v]
	j.mu.Unlock()
	if d != nil {
		<-d.done
	}
	return d
}

// define works out a definition of those of the inputs.
func (j *job) define(v *vertex, op operation) (k cacheKey, err error) {
	inputs := make([]result, len(v.inputs))
	for i, in := range v.inputs {
		if inputs[i], err = j.defineInput(in); err != nil {
			return k, err
		}
		if inputs[i].unstable {
			return k, nil
		}
	}
	var message proto.Message
	switch o := op.(type) {
	case *imageOp:
		if _, err = o.key(j.ctx, nil, nil); err == nil {
			k.digest, err = stackOf(o.found.config)
		}
		return k, err
	case *layoutOp:
		if _, err = o.key(j.ctx, nil, nil); err == nil {
			k.digest = extend("", o.found.diffs)
		}
		return k, err
	case *mergeOp:
		message = o.op
	case passOp:
		message = o.op
	default:
		return op.key(j.ctx, nil, inputs)
	}
	more := make([]string, len(inputs))
	for i := range inputs {
		more[i] = inputs[i].identity().String()
	}
	k.digest, err = keyOf(fmt.Sprintf("definition %T", op), message, more...)
	return k, err
}

// defineInput stands for an input in a definition: an image, or what steps make, by its own; the rest as it is, for it is
// here or must be brought here to know what it holds.
func (j *job) defineInput(in edge) (result, error) {
	if src := in.vertex.op.GetSource(); src != nil && !describedByName(src) {
		return j.solve(j.ctx, in)
	}
	key := j.definition(in.vertex).key
	if key == "" {
		return result{}, fmt.Errorf("%s has no definition: %w", in.vertex.name, errdefs.ErrNotFound)
	}
	if in.vertex.op.GetSource() == nil {
		key = digest.FromString("output " + strconv.Itoa(in.index) + " of " + key.String())
	}
	return result{chain: key, lazy: true}, nil
}

// describedByName says whether a source is an image, whose layers are known before they are here.
func describedByName(src *pb.SourceOp) bool {
	return strings.HasPrefix(src.Identifier, "docker-image://") || strings.HasPrefix(src.Identifier, "oci-layout://")
}

// stackOf is the identity of an image's layers, by its configuration.
func stackOf(config []byte) (digest.Digest, error) {
	var c struct {
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return "", fmt.Errorf("read the configuration of an image: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return extend("", c.RootFS.DiffIDs), nil
}

// definitionOf is what a cache that leaves the machine has of a step beside its first key.
func (j *job) definitionOf(s *step) (digest.Digest, []digest.Digest) {
	results := make([]digest.Digest, len(s.outs))
	for i, r := range s.outs {
		if r.unstable || r.Local != nil {
			return "", nil
		}
		if !r.none {
			results[i] = r.identity()
		}
	}
	key := j.definition(s.v).key
	if key == "" {
		return "", nil
	}
	return key, results
}

// tellSpared tells of the steps that were not even looked at, because one that needs them was found by its definition: they
// count as cached.
func (j *job) tellSpared(res *gwclient.Result) {
	j.mu.Lock()
	begun := make(map[*vertex]bool, len(j.order))
	for _, s := range j.order {
		begun[s.v] = true
	}
	taken := len(j.definitions) > 0
	j.mu.Unlock()
	if !taken {
		return
	}
	_ = res.EachRef(func(ref gwclient.Reference) error { // The function does not fail.
		r, ok := ref.(*Reference)
		if !ok {
			return nil
		}
		each(r.edge.vertex, map[*vertex]bool{}, func(v *vertex) {
			if begun[v] {
				return
			}
			begun[v] = true
			t := j.progress.begin(v)
			t.cached()
			s := &step{v: v, done: make(chan struct{}), cached: true, took: t.end(nil)}
			close(s.done)
			if d := j.knownDefinition(v); d != nil && v.op.GetSource() == nil {
				s.key, s.parts = d.key, d.parts
			}
			j.mu.Lock()
			j.order = append(j.order, s)
			j.mu.Unlock()
		})
		return nil
	})
}
