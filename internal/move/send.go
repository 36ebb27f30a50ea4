package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/movemsg"
)

// sending is the sender's side of a conversation.
type sending struct {
	*Mover
	wire   *wire
	frames chan frame
	there  *hello
	report func(movemsg.Line)
	size   int64 // of what is moved
}

// frame is one that was read.
type frame struct {
	kind kind
	data []byte
	err  error
}

// Send moves something to the daemon at the other end of the connection, and reports how it goes; the last line has the result
// or the failure. It closes nothing.
func (m *Mover) Send(ctx context.Context, req *movemsg.Request, conn io.ReadWriter, report func(movemsg.Line)) {
	result, err := m.send(ctx, req, conn, report)
	if err != nil {
		report(movemsg.Line{Failure: new(fault.PartsOf(explain(err)))})
		return
	}
	report(movemsg.Line{Result: result})
}

func (m *Mover) send(ctx context.Context, req *movemsg.Request, conn io.ReadWriter, report func(movemsg.Line)) (*movemsg.Result, error) {
	w, err := newWire(conn, req.Plain)
	if err != nil {
		return nil, err
	}
	defer w.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &sending{Mover: m, wire: w, frames: make(chan frame, 4), report: report}
	// What the receiver says is read all the time: that it gives up must stop the sending. The goroutine ends with the
	// connection, which the caller closes.
	go s.listen(ctx, cancel)
	result, err := s.converse(ctx, req)
	if err != nil {
		if told := context.Cause(ctx); told != nil && !errors.Is(told, context.Canceled) {
			err = told
		}
		if !isThere(err) {
			_ = w.fail(err) // It may be gone.
		}
		return nil, err
	}
	result.Sent, result.Size = w.sent, s.size
	return result, nil
}

func isThere(err error) bool {
	var there *thereError
	return errors.As(err, &there)
}

// listen reads frames until the connection ends.
func (s *sending) listen(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		k, b, err := s.wire.read(nil)
		if err != nil {
			cancel(err)
		}
		select {
		case s.frames <- frame{k, b, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// next is the next frame. What was said before the connection ended counts.
func (s *sending) next(ctx context.Context) (kind, []byte, error) {
	select {
	case f := <-s.frames:
		return f.kind, f.data, f.err
	default:
	}
	select {
	case f := <-s.frames:
		return f.kind, f.data, f.err
	case <-ctx.Done():
		return 0, nil, context.Cause(ctx)
	}
}

func (s *sending) say(ctx context.Context, m *message) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return s.wire.say(m)
}

func (s *sending) hear(ctx context.Context) (*message, error) {
	k, b, err := s.next(ctx)
	if err != nil {
		return nil, err
	}
	return parse(k, b)
}

func (s *sending) converse(ctx context.Context, req *movemsg.Request) (*movemsg.Result, error) {
	if err := s.greet(ctx, req); err != nil {
		return nil, err
	}
	switch req.Kind {
	case movemsg.Image:
		return s.moveImage(ctx, req)
	case movemsg.Volume:
		return s.moveVolume(ctx, req)
	case movemsg.Container:
		return s.moveContainer(ctx, req)
	}
	return nil, fmt.Errorf("%q cannot be moved: %w", req.Kind, errdefs.ErrInvalidArgument)
}

func (s *sending) greet(ctx context.Context, req *movemsg.Request) error {
	mine := s.hello()
	mine.Item = req.Kind + " " + req.Name
	if err := s.say(ctx, &message{Hello: mine}); err != nil {
		return err
	}
	m, err := s.hear(ctx)
	if err != nil {
		return err
	}
	if m.Hello == nil {
		return fmt.Errorf("the other daemon does not greet: %w", errdefs.ErrInvalidArgument)
	}
	s.there = m.Hello
	if s.there.Store == mine.Store {
		return &fault.Error{
			Code: "move-same-store", What: "that daemon is this one", Class: errdefs.ErrInvalidArgument,
			Cause: "both have the same store", Try: "kist tag, or kist rename",
		}
	}
	return nil
}

func (m *Mover) hello() *hello {
	return &hello{Protocol: protocol, Version: m.Version, OS: "linux", Arch: runtime.GOARCH, Store: m.Store, Several: true}
}

// done waits for the receiver's last word.
func (s *sending) done(ctx context.Context) (*done, error) {
	m, err := s.hear(ctx)
	if err != nil {
		return nil, err
	}
	if m.Done == nil {
		return nil, fmt.Errorf("the other daemon does not say that it is done: %w", errdefs.ErrInvalidArgument)
	}
	for _, n := range m.Done.Notes {
		s.note(n)
	}
	return m.Done, nil
}

func (s *sending) note(text string) { s.report(movemsg.Line{Say: text}) }

// explain says what a connection that broke means.
func explain(err error) error {
	if !errors.Is(err, errLost) {
		return err
	}
	if _, known := fault.As(err); known {
		return err
	}
	return &fault.Error{
		Code: "move-broken-off", What: "the connection to the other daemon broke", Cause: err.Error(), Class: errdefs.ErrUnavailable,
		Try: "run the command again: only the rest is sent", Err: err,
	}
}
