package buildkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	control "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/kistdev/kist/internal/build"
)

// How long a client that asks for a build's progress waits for the build: it asks before it starts the build.
const jobPatience = 10 * time.Second

// How much is remembered of builds: logLimit bytes of output while one runs, so that a client that reads late or slowly
// gets it all, and of those that have ended their last keptLog bytes, for the keptJobs newest.
const (
	logLimit = 4 << 20
	keptLog  = 64 << 10
	keptJobs = 50
)

// jobs are the builds under way and the newest of those that have ended, by their ref.
type jobs struct {
	mu      sync.Mutex // guards what follows
	byRef   map[string]*job
	order   []*job        // oldest first
	changed chan struct{} // closed and replaced when a job begins, ends or is forgotten
}

// job is one build's progress and record.
type job struct {
	jobs *jobs
	// request is what it was asked for; not changed.
	request *control.SolveRequest
	began   time.Time

	mu      sync.Mutex // guards what follows
	past    []*client.SolveStatus
	logSize int
	more    chan struct{} // closed and replaced when past grows or the job ends
	ended   time.Time
	resp    *build.Response
	err     error
	pinned  bool
	counts  counts
}

// counts are a build's vertices in numbers.
type counts struct {
	total, cached, completed, warnings int32
	seen                               map[string]vertexState
}

type vertexState struct{ cached, completed bool }

// watch returns a channel that is closed at the next change. The caller holds mu.
func (js *jobs) watch() chan struct{} {
	if js.changed == nil {
		js.changed = make(chan struct{})
	}
	return js.changed
}

// notify wakes those who watch. The caller holds mu.
func (js *jobs) notify() {
	if js.changed != nil {
		close(js.changed)
		js.changed = nil
	}
}

// begin registers a build.
func (js *jobs) begin(r *control.SolveRequest, now time.Time) (*job, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	if _, ok := js.byRef[r.Ref]; ok {
		return nil, grpcerrors.WrapCode(fmt.Errorf("a build with the ref %s exists", r.Ref), codes.AlreadyExists)
	}
	j := &job{jobs: js, request: r, began: now, more: make(chan struct{})}
	if js.byRef == nil {
		js.byRef = map[string]*job{}
	}
	js.byRef[r.Ref] = j
	js.order = append(js.order, j)
	js.notify()
	return j, nil
}

// find waits for a build.
func (js *jobs) find(ctx context.Context, ref string) (*job, error) {
	ctx, cancel := context.WithTimeout(ctx, jobPatience)
	defer cancel()
	for {
		js.mu.Lock()
		j, ok := js.byRef[ref]
		wait := js.watch()
		js.mu.Unlock()
		if ok {
			return j, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, grpcerrors.WrapCode(fmt.Errorf("no build with the ref %s", ref), codes.NotFound)
		}
	}
}

// forget drops the oldest builds that have ended beyond those that are kept. The caller holds mu.
func (js *jobs) forget() {
	excess := len(js.order) - keptJobs
	kept := js.order[:0]
	for _, j := range js.order {
		if excess > 0 && j.hasEnded() && !j.isPinned() {
			delete(js.byRef, j.request.Ref)
			excess--
			continue
		}
		kept = append(kept, j)
	}
	clear(js.order[len(kept):])
	js.order = kept
}

// add takes a build's progress.
func (j *job) add(s *client.SolveStatus) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.past = append(j.past, s)
	j.count(s)
	for _, l := range s.Logs {
		j.logSize += len(l.Data)
	}
	j.trim(logLimit)
	close(j.more)
	j.more = make(chan struct{})
}

// trim takes the oldest output out of what is remembered. The caller holds mu.
func (j *job) trim(limit int) {
	for i := 0; j.logSize > limit && i < len(j.past); i++ {
		s := j.past[i]
		if len(s.Logs) == 0 {
			continue
		}
		for _, l := range s.Logs {
			j.logSize -= len(l.Data)
		}
		without := *s // Somebody may be sending the one before.
		without.Logs = nil
		j.past[i] = &without
	}
}

func (j *job) count(s *client.SolveStatus) {
	if j.counts.seen == nil {
		j.counts.seen = map[string]vertexState{}
	}
	for _, v := range s.Vertexes {
		key := v.Digest.String()
		before, ok := j.counts.seen[key]
		now := vertexState{cached: before.cached || v.Cached, completed: before.completed || v.Completed != nil}
		if !ok {
			j.counts.total++
		}
		if now.cached && !before.cached {
			j.counts.cached++
		}
		if now.completed && !before.completed {
			j.counts.completed++
		}
		j.counts.seen[key] = now
	}
	j.counts.warnings += int32(len(s.Warnings)) //nolint:gosec // a count of what a person reads
}

// end marks the build as ended.
func (j *job) end(resp *build.Response, err error, now time.Time) {
	j.mu.Lock()
	j.ended, j.resp, j.err = now, resp, err
	j.trim(keptLog)
	j.counts.seen = nil
	close(j.more)
	j.more = make(chan struct{})
	j.mu.Unlock()

	js := j.jobs
	js.mu.Lock()
	defer js.mu.Unlock()
	if j.request.Internal {
		// Tools' own builds are not remembered; whoever reads their progress holds the job.
		delete(js.byRef, j.request.Ref)
		for i, other := range js.order {
			if other == j {
				js.order = append(js.order[:i], js.order[i+1:]...)
				break
			}
		}
	}
	js.forget()
	js.notify()
}

func (j *job) hasEnded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.ended.IsZero()
}

func (j *job) isPinned() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pinned
}

// from returns what is new since position n, the next position, whether the build has ended, and what to wait for.
func (j *job) from(n int) (fresh []*client.SolveStatus, next int, ended bool, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fresh = append(fresh, j.past[n:]...)
	return fresh, len(j.past), !j.ended.IsZero(), j.more
}

// follow gives the build's progress from its beginning to its end to send.
func (j *job) follow(ctx context.Context, send func(*client.SolveStatus) error) error {
	for n := 0; ; {
		fresh, next, ended, more := j.from(n)
		for _, s := range fresh {
			if err := send(s); err != nil {
				return err
			}
		}
		if n = next; ended && len(fresh) == 0 {
			return nil
		}
		if len(fresh) > 0 {
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Status implements Control.
func (c *controller) Status(r *control.StatusRequest, stream control.Control_StatusServer) error {
	if r.Ref == "" {
		return grpcerrors.WrapCode(errors.New("a status request needs a ref"), codes.InvalidArgument)
	}
	if err := sendTime(stream); err != nil {
		return err
	}
	j, err := c.s.jobs.find(stream.Context(), r.Ref)
	if err != nil {
		return err
	}
	return j.follow(stream.Context(), func(s *client.SolveStatus) error {
		shallow := *s // Marshal cuts what it has written off.
		for _, part := range shallow.Marshal() {
			if err := stream.Send(part); err != nil {
				return err
			}
		}
		return nil
	})
}

func timeHeader(now time.Time) metadata.MD {
	return metadata.Pairs("buildkit-current-timestamp", now.Format(time.RFC3339Nano))
}
