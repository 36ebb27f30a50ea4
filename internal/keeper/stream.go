package keeper

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// chunks are the buffers that output and input pass through; the collector takes them back when nothing moves.
var chunks = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// turnReads is how often a stream is read before others get their turn.
const turnReads = 16

// stream is the keeper's end of a process's output: a pipe, or the terminal's master.
type stream struct {
	p    *process
	name string // "stdout" or "stderr"

	mu      sync.Mutex // held while it is read, which may wait for an attachment; guards all below
	fd      int        // -1 when closed
	closing sync.Mutex // held while fd is closed or duplicated, which must not wait for mu
	watch   *watch
	discard bool // the process is gone: what others write is taken off them and thrown away
}

// open begins to watch the stream.
func (s *stream) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.p.k.poll.addOf(s.p, s.fd, unix.EPOLLIN, s.ready)
	s.watch = w
	return err
}

func (s *stream) ready(uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 || s.drain(turnReads) {
		return
	}
	if err := s.p.k.poll.arm(s.watch, unix.EPOLLIN); err != nil {
		s.closeLocked()
	}
}

// drain reads what there is, and says whether that was all there will ever be.
func (s *stream) drain(reads int) (ended bool) {
	if s.fd < 0 {
		return true
	}
	buf := chunks.Get().(*[]byte) //nolint:forcetypeassert // nothing else is put there
	defer chunks.Put(buf)
	for range reads {
		n, err := unix.Read(s.fd, *buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil || n <= 0: // EIO: nobody has the terminal open
			s.closeLocked()
			return true
		}
		if !s.discard {
			s.p.output(s.name, (*buf)[:n])
		}
	}
	return false
}

// patience is how long output is waited for after its process has ended, while others still hold the pipe.
const patience = 100 * time.Millisecond

// finish reads the rest after the process has ended. In a pid namespace of its own nobody else is alive by then, so the
// pipe ends at once.
func (s *stream) finish(until time.Time) {
	for wait := time.Millisecond; ; wait *= 2 {
		s.mu.Lock()
		ended := s.drain(1 << 10)
		if !ended && time.Now().After(until) {
			s.discard = true
			ended = true
		}
		s.mu.Unlock()
		if ended {
			return
		}
		time.Sleep(min(wait, 10*time.Millisecond))
	}
}

// beganAfter says that the stream became ready, for the last time, after the other one.
func (s *stream) beganAfter(other *stream) bool {
	if s == nil || other == nil {
		return false
	}
	s.mu.Lock()
	own := s.watch
	s.mu.Unlock()
	other.mu.Lock()
	others := other.watch
	other.mu.Unlock()
	return s.p.k.poll.before(others, own)
}

func (s *stream) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *stream) closeLocked() {
	if s.fd < 0 {
		return
	}
	s.p.k.poll.remove(s.watch)
	s.watch = nil
	s.closing.Lock()
	defer s.closing.Unlock()
	if !s.p.tty { // the terminal's master is the process's, which still wants to be resized
		unix.Close(s.fd)
	}
	s.fd = -1
}

// dup returns a duplicate of the pipe, or -1.
func (s *stream) dup() int {
	if s == nil {
		return -1
	}
	s.closing.Lock()
	defer s.closing.Unlock()
	return dup(s.fd)
}

// dup duplicates a descriptor; -1 stays -1.
func dup(fd int) int {
	if fd < 0 {
		return -1
	}
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1
	}
	return n
}
