package engine

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/task"
)

// Stream is a connection taken over from HTTP.
type Stream struct {
	// File is a duplicate of the connection's socket, owned by whom it is given to.
	File *os.File
	// Pending are bytes already read from it.
	Pending []byte
}

// AttachOptions for Attach.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	// Logs replays the log first; Stream goes on with live output.
	Logs, Stream bool
	DetachKeys   string // docker's syntax; empty: the default ctrl-p,ctrl-q
	// Raw mixes the streams instead of multiplexing them.
	Raw bool
	// Hijack is called once everything has been validated; it answers the upgrade and gives the connection away.
	Hijack func(tty bool) (Stream, error)
}

// Attach connects a stream to the container, whether it runs yet or not. It returns when the connection is the keeper's:
// what the container writes from now on reaches it, also when this process dies.
func (e *Engine) Attach(ctx context.Context, name string, o AttachOptions) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	keys, err := detachKeys(o.DetachKeys)
	if err != nil {
		return err
	}
	if o.Logs {
		return e.attachWithLogs(ctx, c, o, keys)
	}
	// Held from before the client is told that it is attached: the start that it asks for next must come second, or it
	// would miss the output, and the end. What the last run left behind must be gone too: the keeper ends an attachment
	// to a process that has ended, and this one may be meant for the next.
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	defer c.op.release()
	d, err := e.attachable(c)
	if err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	s, err := e.hijack(c, d, o)
	if err != nil {
		return err
	}
	defer func() { _ = s.File.Close() }() // The keeper has its own descriptor of it.
	return e.join(ctx, d, o, keys, s)
}

// attachWithLogs is Attach when the log comes first. A client may read that as slowly as it likes, so the container is
// not locked meanwhile.
func (e *Engine) attachWithLogs(ctx context.Context, c *container, o AttachOptions, keys []byte) error {
	d, err := e.attachable(c)
	if err != nil {
		return err
	}
	s, err := e.hijack(c, d, o)
	if err != nil {
		return err
	}
	defer func() { _ = s.File.Close() }()
	if err := e.replay(ctx, d, o, s.File); err != nil {
		return err
	}
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	defer c.op.release()
	if d, err = e.attachable(c); err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	return e.join(ctx, d, o, keys, s)
}

// attachable returns the definition of a container that can be attached to now.
func (e *Engine) attachable(c *container) (*definition, error) {
	d, st := c.look()
	switch {
	case st.Phase == paused:
		return nil, fmt.Errorf("container %s is paused, unpause the container before attach: %w", c.id, errdefs.ErrConflict)
	case st.Phase == removing || e.index.get(c.id) != c:
		return nil, e.index.missing(c.id)
	}
	return d, nil
}

// hijack answers the upgrade and takes the connection over.
func (e *Engine) hijack(c *container, d *definition, o AttachOptions) (Stream, error) {
	s, err := o.Hijack(d.Config.Tty)
	if err == nil {
		e.emit(c, events.ActionAttach, nil)
	}
	return s, err
}

// join gives the connection to the keeper.
func (e *Engine) join(ctx context.Context, d *definition, o AttachOptions, keys []byte, s Stream) error {
	if !o.Stream {
		return nil
	}
	r := task.AttachRequest{
		ID: d.ID, Stdin: o.Stdin && d.Config.OpenStdin, Stdout: o.Stdout, Stderr: o.Stderr, Multiplex: !d.Config.Tty && !o.Raw,
		Pending: s.Pending, AcrossRestarts: !d.HostConfig.RestartPolicy.IsNone(),
	}
	if r.Stdin {
		r.DetachKeys = keys
	}
	return e.tasks.Attach(context.WithoutCancel(ctx), r, s.File)
}

// replay writes what the container has written so far.
func (e *Engine) replay(ctx context.Context, d *definition, o AttachOptions, to *os.File) error {
	config, err := e.logConfig(d)
	if err != nil || config.Driver == "none" {
		return err
	}
	out := logWriter{w: to, framed: !d.Config.Tty && !o.Raw}
	return logfile.Read(ctx, config, logfile.ReadOptions{Stdout: o.Stdout, Stderr: o.Stderr, Tail: -1}, out.record)
}

// Resize sets the size of the container's terminal.
func (e *Engine) Resize(ctx context.Context, name string, rows, cols uint16) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	if _, st := c.look(); !st.Phase.alive() {
		return notRunning(c)
	}
	if err := e.tasks.Resize(ctx, c.id, "", rows, cols); err != nil {
		return unlessNoTerminal(err)
	}
	e.emit(c, events.ActionResize, map[string]string{"height": fmt.Sprint(rows), "width": fmt.Sprint(cols)})
	return nil
}

// unlessNoTerminal drops the error of what has no terminal to resize: docker takes no notice, and there are clients that tell their
// window's size whatever they run.
func unlessNoTerminal(err error) error {
	if errdefs.IsFailedPrecondition(err) {
		return nil
	}
	return err
}
