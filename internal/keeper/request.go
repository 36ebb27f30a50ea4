package keeper

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/task"
)

// answer runs one request.
func (s *session) answer(m *task.Message) {
	ctx := context.Background() // a request is seen through even when its client dies
	var r task.Reply
	var err error
	switch m.Kind {
	case task.KindCreate:
		err = s.create(ctx, m)
		if err == nil {
			return // it has replied
		}
	case task.KindExec:
		m.CloseFDs()
		err = s.exec(ctx, m)
		if err == nil {
			return
		}
	case task.KindStart:
		err = s.start(ctx, m)
		if err == nil {
			return
		}
	case task.KindAttach:
		err = s.attach(m)
	case task.KindCloseStdin, task.KindDelete, task.KindDeleteExec:
		m.CloseFDs()
		err = s.k.act(ctx, m)
	case task.KindHold:
		err = s.k.holdSockets(m)
	case task.KindList:
		m.CloseFDs()
		r.Tasks = s.k.list()
	case task.KindMeasure:
		m.CloseFDs()
		r.Use, err = task.Measure()
	default:
		m.CloseFDs()
		err = fmt.Errorf("keeper: request of kind %d: %w", m.Kind, errdefs.ErrNotImplemented)
	}
	r.Failure = task.NewFailure(err)
	s.reply(m.Number, r)
}

// act does what a Target asks for.
func (k *keeper) act(ctx context.Context, m *task.Message) error {
	var t task.Target
	if err := m.Decode(&t); err != nil {
		return err
	}
	switch m.Kind {
	case task.KindDelete:
		return k.remove(ctx, t.ID)
	case task.KindDeleteExec:
		return k.removeExec(t)
	}
	c := k.container(t.ID)
	if c == nil {
		return notFound(t.ID, t.ExecID)
	}
	p := c.find(t.ExecID)
	if p == nil {
		return notFound(t.ID, t.ExecID)
	}
	p.closeInput()
	return nil
}

func (k *keeper) list() []task.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := []task.Status{}
	for _, c := range k.containers {
		if s, ok := c.status(); ok {
			all = append(all, s)
		}
	}
	return all
}

func notFound(id, execID string) error {
	if execID != "" {
		return fmt.Errorf("exec %s of container %s: %w", execID, id, errdefs.ErrNotFound)
	}
	return fmt.Errorf("task of container %s: %w", id, errdefs.ErrNotFound)
}

// attach connects the stream that came with the message.
func (s *session) attach(m *task.Message) error {
	k := s.k
	var r task.AttachMessage
	if err := m.Decode(&r); err != nil {
		m.CloseFDs()
		return err
	}
	if len(m.FDs) != 1 || !validName(r.ID) || r.ExecID != "" && !validName(r.ExecID) {
		m.CloseFDs()
		return fmt.Errorf("attach to %q: %w", r.ID, errdefs.ErrInvalidArgument)
	}
	a, err := newAttachment(s, r, m.FDs[0])
	if err != nil {
		return fmt.Errorf("attach to %s: %w", r.ID, err)
	}
	k.mu.Lock()
	c := k.containers[r.ID]
	if c == nil {
		c = &container{k: k, id: r.ID}
		k.containers[r.ID] = c
	}
	joined := c.attach(a)
	k.mu.Unlock()
	if !joined {
		a.finish() // its process has ended: so does the stream, at once
	}
	return nil
}

// holdSockets keeps sockets that came after the process was made.
func (k *keeper) holdSockets(m *task.Message) error {
	var t task.Target
	if err := m.Decode(&t); err != nil {
		m.CloseFDs()
		return err
	}
	c := k.container(t.ID)
	if c == nil || c.process() == nil {
		m.CloseFDs()
		return notFound(t.ID, "")
	}
	c.process().hold(m.FDs)
	return nil
}
