package keeper

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/task"
)

// session is one client's connection.
type session struct {
	k     *keeper
	conn  *task.Conn
	hands *hands

	mu      sync.Mutex // guards all below
	ready   bool       // it has had its Ready: notices may follow
	notices []notice   // in order; no limit: they are small, and a client that is stopped must not stop the keeper
	posting bool
}

type notice struct {
	kind task.Kind
	body any
}

// post queues a message that nobody waits for.
func (s *session) post(kind task.Kind, body any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready && kind != task.KindDetached {
		return // it learns of everything else with Ready
	}
	s.notices = append(s.notices, notice{kind, body})
	if s.posting || !s.ready {
		return
	}
	s.posting = true
	s.k.wg.Add(1)
	go s.deliver()
}

func (s *session) deliver() {
	defer s.k.wg.Done()
	for {
		s.mu.Lock()
		batch := s.notices
		s.notices = nil
		if len(batch) == 0 {
			s.posting = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for _, n := range batch {
			if s.conn.Send(n.kind, 0, n.body) != nil {
				return // the client is gone; posting stays true, so nothing more is tried
			}
		}
	}
}

// serve answers the client until it goes.
func (s *session) serve() {
	defer s.conn.Close()
	defer close(s.hands.gone)
	for {
		m, err := s.conn.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				slog.Warn("keeper: client", "error", err)
			}
			return
		}
		if err := s.take(m); err != nil {
			slog.Warn("keeper: client dropped", "error", err)
			return
		}
	}
}

// take handles one message: what opens the connection in order, requests each on their own.
func (s *session) take(m *task.Message) error {
	switch m.Kind {
	case task.KindHello:
		m.CloseFDs()
		return s.hello(m)
	case task.KindAdopt:
		return s.k.adopt(m)
	case task.KindReady:
		m.CloseFDs()
		return s.begin(m)
	case task.KindAttach:
		if m.Number == 0 { // from a keeper that died: before its process
			if err := s.attach(m); err != nil {
				slog.Warn("keeper: attachment is lost", "error", err)
			}
			return nil
		}
	case task.KindProfile:
		m.CloseFDs()
		var p task.ProfileMessage
		if err := m.Decode(&p); err != nil {
			return err
		}
		return s.k.profiles.add(p)
	}
	request := &task.Message{Kind: m.Kind, Number: m.Number, Body: append([]byte(nil), m.Body...), FDs: m.FDs}
	s.hands.run(func() {
		s.answer(request)
		s.k.trimSoon()
	})
	return nil
}

func (s *session) hello(m *task.Message) error {
	var h task.Hello
	if err := m.Decode(&h); err != nil {
		return err
	}
	return s.conn.Send(task.KindHello, 0, task.Hello{Version: task.Version, PID: os.Getpid()})
}

// begin settles what nobody handed in, then tells the client everything.
func (s *session) begin(m *task.Message) error {
	var r task.Ready
	if err := m.Decode(&r); err != nil {
		return err
	}
	s.k.settle(r.Fresh)
	if r.Fresh {
		s.k.endStrays()
	}
	s.mu.Lock()
	s.ready = true // from here on exits are posted; one that comes now may be told twice
	s.posting = true
	s.mu.Unlock()
	var ended []task.Event
	for _, p := range s.k.allProcesses() {
		h, fds := p.held()
		p.c.mu.Lock()
		if p.execID == "" && !p.c.started && h.State == task.Running {
			h.State = task.Created
		}
		p.c.mu.Unlock()
		err := s.conn.Send(task.KindHeld, 0, h, fds...)
		closeFDs(fds)
		if err != nil {
			return err
		}
		if h.Exit != nil {
			ended = append(ended, task.Event{Kind: task.EventExit, ID: h.ID, ExecID: h.ExecID, Exit: h.Exit})
		}
	}
	if err := s.conn.Send(task.KindReady, 0, task.Ready{}); err != nil {
		return err
	}
	for _, e := range ended {
		if err := s.conn.Send(task.KindEvent, 0, e); err != nil {
			return err
		}
	}
	s.k.wg.Add(1)
	go s.deliver()
	return nil
}

func (k *keeper) allProcesses() []*process {
	k.mu.Lock()
	all := make([]*container, 0, len(k.containers))
	for _, c := range k.containers {
		all = append(all, c)
	}
	k.mu.Unlock()
	var ps []*process
	for _, c := range all {
		ps = append(ps, c.processes()...)
	}
	return ps
}

// reply answers a request. A client that is gone learns the outcome from the next Held; one that cannot be answered is
// cut off, so that it does.
func (s *session) reply(number uint32, r task.Reply, fds ...int) {
	defer closeFDs(fds)
	if err := s.conn.Send(task.KindReply, number, r, fds...); err != nil {
		if !errors.Is(err, os.ErrClosed) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			slog.Warn("keeper: reply", "error", err)
		}
		s.conn.Close()
	}
}

// endStrays ends attachments to execs that were never made: whoever was to make them is gone.
func (k *keeper) endStrays() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.containers {
		c.mu.Lock()
		for execID, waiting := range c.waiting {
			if execID == "" {
				continue
			}
			delete(c.waiting, execID)
			for _, a := range waiting {
				a.finish()
			}
		}
		c.mu.Unlock()
	}
}
