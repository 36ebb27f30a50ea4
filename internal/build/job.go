package build

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/layer"
)

// job is one build under way: the graphs that its frontend asks for, each vertex run at most once.
type job struct {
	b        *Builder
	req      *Request
	ref      string
	began    time.Time
	progress *progress
	hold     *layer.Hold

	ctx    context.Context //nolint:containedctx // The steps belong to the build, not to the call that wanted them first.
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	steps   map[stepID]*step
	order   []*step
	seen    map[*vertex]bool
	closers []func()
	used    []digest.Digest
	images  map[string]*resolved
	asked   map[string]bool // questions about sources, by what progress calls them
	imports []*imported
	notes   []string
	// frontend and attrs are those of the frontend that made the graphs.
	frontend string
	attrs    map[string]string
	// frontends are the images that frontends came as.
	frontends []*vertex
	// definitions are the steps' second keys, as far as somebody wanted to know.
	definitions map[*vertex]*definition
	// imported are the caches that were asked for, whether they could be had or not.
	imported []string
	// dockerfile is the file that the frontend read first.
	dockerfile []byte
}

// stepID tells steps apart. The same operation may be wanted with and without the cache.
type stepID struct {
	digest digest.Digest
	fresh  bool
}

// step is one vertex in one build.
type step struct {
	v    *vertex
	done chan struct{} // closed when what follows is there
	err  error
	outs []result

	op     operation
	key    digest.Digest
	parts  func() []part
	whole  func(out, in int) bool
	cached bool
	shared bool
	reason string // why the cache could not be used, if that is known without comparing
	ran    bool
	began  time.Time
	took   time.Duration
	inputs []*step
}

var errAbandoned = errors.New("the step was abandoned")

// solve returns what an edge leads to, and makes it first if need be.
func (j *job) solve(ctx context.Context, e edge) (result, error) {
	if e.vertex == nil {
		return result{}, nil // the empty file system
	}
	s, err := j.run(ctx, e.vertex)
	if err != nil {
		return result{}, err
	}
	if e.index >= len(s.outs) || s.outs[e.index].none {
		return result{}, fmt.Errorf("%s has no output %d: %w", e.vertex.name, e.index, errdefs.ErrInvalidArgument)
	}
	return s.outs[e.index], nil
}

// run waits for the vertex's step, which it starts if nobody has.
func (j *job) run(ctx context.Context, v *vertex) (*step, error) {
	s, err := j.begin(v)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.done:
		return s, s.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (j *job) begin(v *vertex) (*step, error) {
	id := stepID{v.digest, v.meta.IgnoreCache}
	j.mu.Lock()
	defer j.mu.Unlock()
	if s, ok := j.steps[id]; ok {
		return s, nil
	}
	if err := j.ctx.Err(); err != nil {
		return nil, context.Cause(j.ctx)
	}
	s := &step{v: v, done: make(chan struct{}), err: errAbandoned}
	j.steps[id] = s
	j.order = append(j.order, s)
	j.wg.Go(func() {
		defer close(s.done)
		s.err = j.turn(s)
	})
	return s, nil
}

// turn makes a step's result, and keeps a bug in one step from taking the daemon with it.
func (j *job) turn(s *step) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &fault.Error{
				Code: "build-bug", What: fmt.Sprintf("the step %q failed by a mistake in kist", s.v.name), Cause: fmt.Sprint(p),
				Err: fmt.Errorf("%s", debug.Stack()),
			}
		}
	}()
	if taken, err := j.takeDefined(s); taken || err != nil {
		return s.v.locate(err)
	}
	inputs, err := j.inputs(s)
	if err != nil {
		return s.v.locate(err)
	}
	return j.evaluate(s, inputs)
}

// inputs makes what the step stands on, side by side, and gives up at the first failure.
func (j *job) inputs(s *step) ([]result, error) {
	results := make([]result, len(s.v.inputs))
	s.inputs = make([]*step, len(s.v.inputs))
	for i, in := range s.v.inputs {
		below, err := j.begin(in.vertex)
		if err != nil {
			return nil, err
		}
		s.inputs[i] = below
	}
	// The one that fails first ends the wait for the others.
	failed := make(chan error, len(s.inputs))
	for i, below := range s.inputs {
		select {
		case <-below.done:
			if below.err != nil {
				return nil, below.err
			}
			continue
		default:
		}
		if i < len(s.inputs)-1 {
			j.wg.Go(func() {
				<-below.done
				if below.err != nil {
					failed <- below.err
				}
			})
		}
	}
	for i, in := range s.v.inputs {
		below := s.inputs[i]
		select {
		case <-below.done:
		case err := <-failed:
			return nil, err
		}
		if below.err != nil {
			return nil, below.err
		}
		if in.index >= len(below.outs) || below.outs[in.index].none {
			return nil, fmt.Errorf("%s has no output %d: %w", in.vertex.name, in.index, errdefs.ErrInvalidArgument)
		}
		results[i] = below.outs[in.index]
	}
	return results, nil
}

// evaluate finds the step's result in the cache, or runs it.
func (j *job) evaluate(s *step, inputs []result) error {
	op, err := j.operation(s.v)
	if err != nil {
		return j.failed(s, err)
	}
	s.op = op
	t := j.progress.begin(s.v)
	s.began = time.Now()
	err = j.attempt(s, op, inputs, t)
	s.took = t.end(err)
	if err != nil {
		return j.failed(s, err)
	}
	return nil
}

func (j *job) attempt(s *step, op operation, inputs []result, t *track) error {
	k, err := op.key(j.ctx, t, inputs)
	if err != nil {
		return err
	}
	s.key, s.parts, s.whole = k.digest, k.parts, k.whole
	unstable := false
	for _, in := range inputs {
		unstable = unstable || in.unstable
	}
	if k.digest == "" {
		s.outs, err = op.run(j.ctx, t, inputs)
		s.cached = err == nil && k.cached
		if s.cached {
			t.cached()
		}
		return err
	}
	switch {
	case s.v.meta.IgnoreCache:
		s.reason = "the cache was not to be used (--no-cache)"
	case !unstable && j.hit(s, inputs):
		t.cached()
		return nil
	}
	t.running()
	s.ran = true
	outs, shared, err := j.b.flights.do(j.ctx, k.digest, func() ([]output, bool, error) { return j.perform(s, op, inputs, t, k, unstable) })
	if err != nil {
		return err
	}
	if !shared {
		return nil
	}
	s.shared = true
	t.say("another build has just run this step")
	if !j.take(s, outs, inputs) {
		return fmt.Errorf("what another build made of %q is gone: %w", s.v.name, errdefs.ErrUnavailable)
	}
	return nil
}

// hit takes the result from the cache, ours or an imported one.
func (j *job) hit(s *step, inputs []result) bool {
	row, ok := j.b.cache.get(s.key)
	if ok && j.take(s, row.Outputs, inputs) {
		s.cached = true
		return true
	}
	if ok {
		s.reason = "what it had made was removed from the cache"
	}
	for _, im := range j.caches() {
		row, err := im.fetch(j.ctx, im.records[s.key])
		if err != nil || row == nil || !j.take(s, row.Outputs, inputs) {
			continue // What cannot be fetched is made.
		}
		j.b.cache.put(s.key, row)
		s.cached = true
		return true
	}
	return false
}

// caches are the imported ones.
func (j *job) caches() []*imported {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.imports
}

// take makes results of outputs, if their layers are all here, and keeps them here.
func (j *job) take(s *step, outs []output, inputs []result) bool {
	results := make([]result, len(outs))
	for i, o := range outs {
		if o.Base >= 0 && s.whole != nil && !s.whole(i, o.Base) {
			return false // A record of another program, or of an early kist.
		}
		r, ok := o.resultOf(inputs)
		if !ok || !j.hold.Take(r.Layers...) {
			return false
		}
		r.from = s.key
		results[i] = r
	}
	s.outs = results
	j.mu.Lock()
	defer j.mu.Unlock()
	j.used = append(j.used, s.key)
	return true
}

// perform runs the step and remembers what it made, if it is sure that it is what the key says.
func (j *job) perform(s *step, op operation, inputs []result, t *track, k cacheKey, unstable bool) (outs []output, sure bool, err error) {
	results, err := op.run(j.ctx, t, inputs)
	if err != nil {
		return nil, false, err
	}
	now := time.Now()
	row := &record{Created: now, Used: now, Uses: 1, Name: s.v.name, Kind: k.kind}
	for i := range results {
		r := &results[i]
		unstable = unstable || r.unstable
		if r.none {
			row.Outputs = append(row.Outputs, output{None: true})
			continue
		}
		o := outputOf(r.Layers, inputs, func(in int) bool { return k.whole == nil || k.whole(i, in) })
		row.Outputs = append(row.Outputs, o)
		row.Size += j.b.sizeOf(o.Added)
		r.from, r.fresh = s.key, true
	}
	for i := range results {
		results[i].unstable = unstable
	}
	s.outs = results
	for _, in := range s.inputs {
		if in.key != "" {
			row.Parents = append(row.Parents, in.key)
		}
	}
	if !unstable {
		j.b.cache.put(s.key, row)
	}
	return row.Outputs, !unstable, nil
}

// atEnd has fn run when the build has ended.
func (j *job) atEnd(fn func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closers = append(j.closers, fn)
}

// end stops what still runs and gives everything back.
func (j *job) end() {
	j.mu.Lock() // Nothing begins from here on.
	j.cancel(errAbandoned)
	j.mu.Unlock()
	j.wg.Wait()
	j.b.cache.used(j.used, time.Now())
	for i := len(j.closers) - 1; i >= 0; i-- {
		j.closers[i]()
	}
	j.hold.Release()
}
