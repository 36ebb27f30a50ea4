package api

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/moby/buildkit/client"

	"github.com/kistdev/kist/internal/buildmsg"
)

// buildStream writes a build's messages. What comes while a message is being written becomes one message: a build of many
// cached steps is a few of them.
type buildStream struct {
	w     http.ResponseWriter
	quiet bool // nobody looks at the progress

	mu      sync.Mutex // guards what follows
	pending client.SolveStatus
	wants   []*buildmsg.Want
	last    *buildmsg.Message
	wake    *sync.Cond
	ended   bool
	began   bool
	done    chan struct{}
}

func newBuildStream(w http.ResponseWriter) *buildStream {
	b := &buildStream{w: w, done: make(chan struct{})}
	b.wake = sync.NewCond(&b.mu)
	go b.run()
	return b
}

// line is a message with progress as BuildKit's types write it.
type line struct {
	*client.SolveStatus
	Want    *buildmsg.Want    `json:"want,omitempty"`
	Result  *buildmsg.Result  `json:"result,omitempty"`
	Failure *buildmsg.Failure `json:"failure,omitempty"`
}

// status adds progress.
func (b *buildStream) status(s *client.SolveStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &b.pending
	if !b.quiet {
		p.Vertexes = append(p.Vertexes, s.Vertexes...)
		p.Statuses = append(p.Statuses, s.Statuses...)
		p.Logs = append(p.Logs, s.Logs...)
	}
	p.Warnings = append(p.Warnings, s.Warnings...)
	if !empty(p) {
		b.wake.Signal()
	}
}

// want asks the client for something.
func (b *buildStream) want(w *buildmsg.Want) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wants = append(b.wants, w)
	b.wake.Signal()
}

// end writes the last message, if there is one, and returns when it is written. Only the first call counts.
func (b *buildStream) end(last *buildmsg.Message) {
	b.mu.Lock()
	if !b.ended {
		b.last, b.ended = last, true
	}
	b.wake.Signal()
	b.mu.Unlock()
	<-b.done
}

// run writes until the end. A client that has gone is told nothing: its build ends by its context.
func (b *buildStream) run() {
	defer close(b.done)
	enc := json.NewEncoder(b.w)
	enc.SetEscapeHTML(false)
	for {
		lines, ended := b.next()
		for i := range lines {
			if enc.Encode(&lines[i]) != nil {
				break
			}
		}
		if ended {
			return // The answer's end is what is flushed.
		}
		_ = http.NewResponseController(b.w).Flush()
	}
}

// next waits for something to write.
func (b *buildStream) next() (lines []line, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.ended && len(b.wants) == 0 && empty(&b.pending) {
		b.wake.Wait()
	}
	if !empty(&b.pending) {
		status := b.pending
		b.pending = client.SolveStatus{}
		lines = append(lines, line{SolveStatus: &status})
	}
	for _, w := range b.wants {
		lines = append(lines, line{Want: w})
	}
	b.wants = nil
	if b.ended && b.last != nil {
		lines = append(lines, line{Result: b.last.Result, Failure: b.last.Failure})
	}
	if len(lines) > 0 && !b.began {
		b.began = true
		b.w.Header().Set("Content-Type", "application/json")
	}
	return lines, b.ended
}

func empty(s *client.SolveStatus) bool {
	return len(s.Vertexes) == 0 && len(s.Statuses) == 0 && len(s.Logs) == 0 && len(s.Warnings) == 0
}
