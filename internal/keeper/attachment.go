package keeper

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/task"
)

const (
	// queueLimit is how much output an attachment may be behind before its process has to wait.
	queueLimit = 1 << 20
	// lastWords is how long a finished attachment's other side has to close it.
	lastWords = 10 * time.Second
)

// attachment is a stream that is connected to a process. It exists before the process if it must.
type attachment struct {
	k   *keeper
	req task.AttachRequest // without Pending once that was used
	raw syscall.RawConn

	session *session // by which it came: it is told of the end
	ticket  uint64

	process  atomic.Pointer[process]
	detached bool // only serve's

	mu        sync.Mutex // guards all below
	file      *os.File
	progress  *sync.Cond // the queue became shorter, or there will be no more waiting
	queue     []byte     // output not written yet
	writing   int        // bytes that flush has taken out of the queue and is writing
	flushing  bool
	unlimited bool // the process has ended: what little is left must not wait
	reading   bool // serve runs
	served    bool // serve was started
	ending    bool // close when all is written
	dead      bool // closed
	hup       *watch
}

func newAttachment(s *session, m task.AttachMessage, fd int) (*attachment, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "attachment")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	a := &attachment{k: s.k, session: s, req: m.AttachRequest, ticket: m.Ticket, file: f, raw: raw}
	a.progress = sync.NewCond(&a.mu)
	return a, nil
}

func (a *attachment) wants(stream string) bool {
	if stream == "stderr" {
		return a.req.Stderr
	}
	return a.req.Stdout
}

// write adds output. It waits while the attachment is too far behind, unless it is ending.
func (a *attachment) write(stream string, b []byte) {
	if !a.wants(stream) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue)+a.writing > queueLimit && !a.dead && !a.ending && !a.unlimited {
		a.progress.Wait()
	}
	if a.dead {
		return
	}
	var head []byte
	if a.req.Multiplex {
		head = make([]byte, 8)
		head[0] = 1
		if stream == "stderr" {
			head[0] = 2
		}
		binary.BigEndian.PutUint32(head[4:], uint32(len(b)))
	}
	if !a.flushing {
		n, err := a.writeNow(head, b)
		if err != nil {
			a.closeLocked()
			return
		}
		if n < len(head) {
			head = head[n:]
		} else {
			b, head = b[n-len(head):], nil
		}
	}
	if len(head)+len(b) == 0 {
		return
	}
	a.queue = append(append(a.queue, head...), b...)
	if !a.flushing {
		a.flushing = true
		a.k.wg.Add(1)
		go a.flush()
	}
}

// writeNow writes what the socket takes at once.
func (a *attachment) writeNow(head, b []byte) (n int, err error) {
	werr := a.raw.Write(func(fd uintptr) bool {
		for {
			n, err = unix.Writev(int(fd), [][]byte{head, b})
			if !errors.Is(err, unix.EINTR) {
				return true
			}
		}
	})
	switch {
	case werr != nil:
		return 0, werr
	case errors.Is(err, unix.EAGAIN):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return n, nil
}

// flush writes the queue until it is empty.
func (a *attachment) flush() {
	defer a.k.wg.Done()
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue) > 0 && !a.dead {
		b := a.queue
		a.queue, a.writing = nil, len(b)
		for len(b) > 0 {
			piece := b[:min(len(b), 64<<10)]
			a.mu.Unlock()
			n, err := a.file.Write(piece)
			a.mu.Lock()
			b = b[n:]
			a.writing = len(b)
			a.progress.Broadcast()
			if err != nil {
				a.closeLocked()
				return
			}
		}
	}
	a.flushing = false
	if a.ending {
		a.endLocked()
	}
}

// finish ends the attachment once everything is written.
func (a *attachment) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ending || a.dead {
		return
	}
	a.ending = true
	a.progress.Broadcast()
	if !a.flushing {
		a.endLocked()
	}
}

// unblock lets output pass whatever the queue's length.
func (a *attachment) unblock() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unlimited = true
	a.progress.Broadcast()
}

// endLocked says that there is no more output. The other side closes then; until it does its input is read, for a close
// with unread input would reset the connection and might take the last output with it.
func (a *attachment) endLocked() {
	if a.dead {
		return
	}
	if !a.reading {
		a.closeLocked()
		return
	}
	_ = a.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) }) // the peer may be gone
	_ = a.file.SetReadDeadline(time.Now().Add(lastWords))
}

// drop closes the attachment without waiting for anything.
func (a *attachment) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closeLocked()
}

func (a *attachment) closeLocked() {
	if a.dead {
		return
	}
	a.dead = true
	a.k.poll.remove(a.hup)
	a.hup = nil
	_ = a.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }) // whatever copies of it there are
	a.file.Close()
	a.queue, a.writing = nil, 0
	a.progress.Broadcast()
	a.session.post(task.KindDetached, task.Detached{Ticket: a.ticket})
}
