package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/bootstrap"
	"github.com/kistdev/kist/internal/fault"
)

// bootstrapper is what the API needs of bootstrap.Maker.
type bootstrapper interface {
	Make(ctx context.Context, r bootmsg.Request, report func(bootmsg.Message)) (*bootmsg.Result, error)
}

func (s *Server) routeBootstrap() {
	if s.Bootstrap == nil {
		s.handle("POST /kist/bootstrap", refuse("making base images"))
		return
	}
	s.handle("POST /kist/bootstrap", s.bootstrap)
}

// maxBootstrap bounds the request: keyrings are in it.
const maxBootstrap = 32 << 20

// bootstrap serves `kist image bootstrap`.
func (s *Server) bootstrap(w http.ResponseWriter, r *request) error {
	var req bootmsg.Request
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBootstrap)).Decode(&req); err != nil {
		return fmt.Errorf("invalid JSON in the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if req.Suite == "" {
		return fmt.Errorf("the suite is missing: %w", errdefs.ErrInvalidArgument)
	}
	out := newMessages(w)
	defer out.end() // Nothing writes any more when this has returned, whatever happens.
	res, err := s.Bootstrap.Make(r.Context(), req, out.send)
	last := bootmsg.Message{Result: res}
	if err != nil {
		if r.Context().Err() != nil {
			return err // nobody is there to be told
		}
		last = bootmsg.Message{Failure: s.bootstrapFailure(r.Context(), err)}
	}
	out.send(last)
	return nil
}

func (s *Server) bootstrapFailure(ctx context.Context, err error) *bootmsg.Failure {
	f := &bootmsg.Failure{Parts: fault.PartsOf(s.explainFull(ctx, err))}
	var script *bootstrap.ScriptError
	if errors.As(err, &script) {
		f.Tail = script.Tail
	}
	return f
}

// messages writes a stream of messages. Progress that comes while one is being written replaces what waits of its stage, so
// that a slow client holds nothing up.
type messages struct {
	w    http.ResponseWriter
	mu   sync.Mutex // guards what follows
	wake *sync.Cond
	wait []bootmsg.Message
	over bool
	done chan struct{}
}

func newMessages(w http.ResponseWriter) *messages {
	m := &messages{w: w, done: make(chan struct{})}
	m.wake = sync.NewCond(&m.mu)
	w.Header().Set("Content-Type", "application/json")
	go m.run()
	return m
}

func (m *messages) send(msg bootmsg.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wake.Signal()
	if msg.Progress != nil {
		for i := range m.wait {
			if p := m.wait[i].Progress; p != nil && p.Stage == msg.Progress.Stage {
				m.wait[i] = msg
				return
			}
		}
	}
	m.wait = append(m.wait, msg)
}

// end returns when all is written.
func (m *messages) end() {
	m.mu.Lock()
	m.over = true
	m.wake.Signal()
	m.mu.Unlock()
	<-m.done
}

func (m *messages) run() {
	defer close(m.done)
	enc := json.NewEncoder(m.w)
	for {
		m.mu.Lock()
		for len(m.wait) == 0 && !m.over {
			m.wake.Wait()
		}
		list, over := m.wait, m.over
		m.wait = nil
		m.mu.Unlock()
		for i := range list {
			if enc.Encode(&list[i]) != nil {
				break // the client has gone: the request's context ends the work
			}
		}
		if over {
			return
		}
		_ = http.NewResponseController(m.w).Flush()
	}
}
