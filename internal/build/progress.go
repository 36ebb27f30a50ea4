package build

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// progress gathers what happens in one build and hands it on, a batch at a time: whatever comes up while the receiver is
// busy goes out together.
type progress struct {
	send Status

	mu      sync.Mutex // guards what follows
	pending client.SolveStatus
	any     bool
	logged  int // bytes of output in pending
	seen    map[digest.Digest]bool
	closed  bool
	wake    chan struct{}
	done    chan struct{}
	room    sync.Cond // logged has become less
}

// maxLogged is how much output of commands may wait for a slow receiver; then the commands wait.
const maxLogged = 4 << 20

func newProgress(send Status) *progress {
	p := &progress{send: send, seen: map[digest.Digest]bool{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	p.room.L = &p.mu
	go p.run()
	return p
}

func (p *progress) run() {
	defer close(p.done)
	for range p.wake {
		p.mu.Lock()
		batch, any := p.pending, p.any
		p.pending, p.any, p.logged = client.SolveStatus{}, false, 0
		p.room.Broadcast()
		p.mu.Unlock()
		if any && p.send != nil {
			p.send(&batch)
		}
	}
}

// close sends what is left and waits for it.
func (p *progress) close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		select {
		case p.wake <- struct{}{}:
		default:
		}
		close(p.wake)
		p.room.Broadcast()
	}
	p.mu.Unlock()
	<-p.done
}

// put changes the next batch under the lock.
func (p *progress) put(fn func(*client.SolveStatus)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	fn(&p.pending)
	p.any = true
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// known announces the vertices of a graph, so that clients can count them.
func (p *progress) known(v *vertex, seen map[*vertex]bool) {
	var fresh []*client.Vertex
	each(v, seen, func(v *vertex) {
		fresh = append(fresh, v.progress())
	})
	p.put(func(s *client.SolveStatus) {
		for _, one := range fresh {
			if !p.seen[one.Digest] {
				p.seen[one.Digest] = true
				s.Vertexes = append(s.Vertexes, one)
			}
		}
	})
}

// progress is the vertex as progress tells it.
func (v *vertex) progress() *client.Vertex {
	return &client.Vertex{Digest: v.digest, Inputs: v.inputDigests(), Name: v.name, ProgressGroup: v.meta.ProgressGroup}
}

// track is one vertex's voice.
type track struct {
	p      *progress
	vertex client.Vertex
	told   bool
}

// begin takes the time. Nothing is told before it is known whether there is work to do: a step that is cached is one
// message.
func (p *progress) begin(v *vertex) *track {
	now := time.Now()
	t := &track{p: p, vertex: *v.progress()}
	t.vertex.Started = &now
	return t
}

// running says that work on the vertex has begun.
func (t *track) running() {
	if !t.told {
		t.told = true
		t.tell()
	}
}

// internal begins a vertex that is in no graph.
func (p *progress) internal(name string) *track {
	now := time.Now()
	t := &track{p: p, vertex: client.Vertex{
		Digest: digest.FromString(fmt.Sprintf("%p %d %s", p, now.UnixNano(), name)), Name: name, Started: &now,
	}}
	t.running()
	return t
}

// tell hands on the vertex as it is now.
func (t *track) tell() {
	v := t.vertex
	t.p.put(func(s *client.SolveStatus) { s.Vertexes = append(s.Vertexes, &v) })
}

// cached says that the result was there.
func (t *track) cached() { t.vertex.Cached = true }

// end says how it came out.
func (t *track) end(err error) time.Duration {
	now := time.Now()
	t.vertex.Completed = &now
	if err != nil {
		t.vertex.Error = err.Error()
	}
	t.tell()
	return now.Sub(*t.vertex.Started)
}

// status tells how far a part of the vertex is; it has ended when done.
func (t *track) status(id string, current, total int64, began time.Time, done bool) {
	now := time.Now()
	one := &client.VertexStatus{ID: id, Vertex: t.vertex.Digest, Current: current, Total: total, Timestamp: now, Started: &began}
	if done {
		one.Completed = &now
	}
	t.p.put(func(s *client.SolveStatus) { s.Statuses = append(s.Statuses, one) })
}

// part runs fn as a part of the vertex that progress shows by name.
func (t *track) part(name string, fn func() error) error {
	began := time.Now()
	t.status(name, 0, 0, began, false)
	err := fn()
	t.status(name, 0, 0, began, true)
	return err
}

// log is a stream of the vertex's command: 1 is its output, 2 what it complains of.
func (t *track) log(stream int) io.Writer { return logWriter{t, stream} }

type logWriter struct {
	t      *track
	stream int
}

func (w logWriter) Write(b []byte) (int, error) {
	one := &client.VertexLog{Vertex: w.t.vertex.Digest, Stream: w.stream, Data: append([]byte(nil), b...), Timestamp: time.Now()}
	p := w.t.p
	p.put(func(s *client.SolveStatus) {
		s.Logs = append(s.Logs, one)
		p.logged += len(b)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.logged > maxLogged && !p.closed {
		p.room.Wait()
	}
	return len(b), nil
}

// say logs a line of our own.
func (t *track) say(format string, args ...any) {
	_, _ = fmt.Fprintf(t.log(2), format+"\n", args...) // A logWriter does not fail.
}
