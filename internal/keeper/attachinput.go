package keeper

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/task"
)

// read waits for input and reads it into a pooled buffer, which the caller gives back.
func (a *attachment) read() (*[]byte, int, error) {
	var buf *[]byte
	var n int
	var err error
	rerr := a.raw.Read(func(fd uintptr) bool {
		buf = chunks.Get().(*[]byte) //nolint:forcetypeassert // nothing else is put there
		for {
			n, err = unix.Read(int(fd), *buf)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if errors.Is(err, unix.EAGAIN) {
			chunks.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	if err = errors.Join(rerr, err); err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil && buf != nil {
		chunks.Put(buf)
		buf = nil
	}
	return buf, n, err
}

// bind connects the attachment to a process, from whose input it may go on to another's after a restart.
func (a *attachment) bind(p *process) {
	a.process.Store(p)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unlimited = false
	if a.dead || a.served {
		return
	}
	a.served, a.reading = true, true
	a.k.wg.Add(1)
	go a.serve()
}

// serve copies the attachment's input to the process until the other side ends it.
func (a *attachment) serve() {
	defer a.k.wg.Done()
	d := &detacher{keys: a.req.DetachKeys}
	a.feed(d, a.req.Pending)
	a.req.Pending = nil
	for {
		buf, n, err := a.read()
		if err != nil {
			a.pass(d.rest())
			a.inputEnded(err)
			return
		}
		a.feed(d, (*buf)[:n])
		chunks.Put(buf)
	}
}

// feed passes input on, and ends the attachment when the keys to detach are in it.
func (a *attachment) feed(d *detacher, b []byte) {
	if a.detached {
		return
	}
	b, a.detached = d.scan(b)
	a.pass(b)
	if !a.detached {
		return
	}
	p := a.process.Load()
	p.leave(a)
	a.finish()
	a.k.emit(task.Event{Kind: task.EventDetach, ID: p.c.id, ExecID: p.execID})
}

func (a *attachment) pass(b []byte) {
	if a.req.Stdin && len(b) > 0 {
		_ = a.process.Load().input.write(b) // what a process does not read any more is thrown away; its output is still wanted
	}
}

// inputEnded is the end of what the other side sends: it closed its half, or all of it.
func (a *attachment) inputEnded(err error) {
	p := a.process.Load()
	if a.req.Stdin && !a.detached {
		p.inputEnded()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reading = false
	if a.dead {
		return
	}
	if a.ending {
		if !a.flushing {
			a.closeLocked()
		}
		return
	}
	if !errors.Is(err, io.EOF) {
		a.closeLocked()
		go p.leave(a) // not under a.mu, which is the inner lock
		return
	}
	// Output goes on. A socket whose other side is closed altogether says so by itself, at once or later.
	_ = a.raw.Control(func(fd uintptr) {
		w, err := a.k.poll.add(int(fd), 0, func(uint32) {
			a.drop()
			a.process.Load().leave(a)
		})
		if err == nil {
			a.hup = w
		}
	})
}
