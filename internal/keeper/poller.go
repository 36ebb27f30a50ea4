package keeper

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// poller watches descriptors in one epoll instance of its own, which is itself watched by Go's: waiting takes one
// goroutine and no thread.
type poller struct {
	fd   int
	file *os.File
	done chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex // guards next, turns, watches and their turn
	next    uint64
	turns   uint64
	watches map[uint64]*watch
}

// watch is one descriptor. ready is called in a goroutine of its own when what it was armed for has happened, and not
// again before it is armed again.
type watch struct {
	id    uint64
	fd    int
	ready func(events uint32)
	// owner is a process whose streams are read in the order in which they became ready; nil for what has no order.
	owner *process
	turn  uint64 // counts up over all watches with each event
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // what makes os.NewFile register it
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), watches: map[uint64]*watch{}}
	raw, err := p.file.SyscallConn()
	if err != nil {
		p.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go func() {
		defer close(p.done)
		events := make([]unix.EpollEvent, 64)
		for {
			var n int
			var err error
			if rerr := raw.Read(func(fd uintptr) bool {
				n, err = unix.EpollWait(int(fd), events, 0)
				return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
			}); rerr != nil || err != nil {
				return
			}
			p.dispatch(events[:n])
		}
	}()
	return p, nil
}

func (p *poller) dispatch(events []unix.EpollEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range events {
		w := p.of(&events[i])
		if w == nil {
			continue
		}
		p.turns++
		w.turn = p.turns
		happened := events[i].Events
		work := func() { w.ready(happened) }
		if w.owner != nil {
			// The kernel lists descriptors in the order in which they became ready: what a process wrote first is read first.
			if !w.owner.line.join(work) {
				continue
			}
			work = w.owner.line.serve
		}
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			work()
		}()
	}
}

// line has what is to be done one after the other. A goroutine serves it while there is something.
type line struct {
	mu      sync.Mutex // guards what follows
	waiting []func()
	served  bool
}

// join puts something at the end of the line, and says whether the caller has to see that it is served.
func (l *line) join(work func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, work)
	first := !l.served
	l.served = true
	return first
}

// serve does what is in the line until nobody is left.
func (l *line) serve() {
	for {
		l.mu.Lock()
		if len(l.waiting) == 0 {
			l.served, l.waiting = false, nil
			l.mu.Unlock()
			return
		}
		work := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.mu.Unlock()
		work()
	}
}

// of is the watch that an event is of; nil if it has ended. p.mu is held.
func (p *poller) of(e *unix.EpollEvent) *watch {
	return p.watches[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
}

// before says that a's last event was before b's; one that has had none yet comes last.
func (p *poller) before(a, b *watch) bool {
	if a == nil || b == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return a.turn != 0 && (b.turn == 0 || a.turn < b.turn)
}

// add watches a descriptor and arms it for events.
func (p *poller) add(fd int, events uint32, ready func(uint32)) (*watch, error) {
	return p.addOf(nil, fd, events, ready)
}

// addOf is add for one of the streams of a process.
func (p *poller) addOf(owner *process, fd int, events uint32, ready func(uint32)) (*watch, error) {
	p.mu.Lock()
	p.next++
	w := &watch{id: p.next, fd: fd, ready: ready, owner: owner}
	p.watches[w.id] = w
	p.mu.Unlock()
	if err := p.control(unix.EPOLL_CTL_ADD, w, events); err != nil {
		p.mu.Lock()
		delete(p.watches, w.id)
		p.mu.Unlock()
		return nil, err
	}
	return w, nil
}

// arm watches for events again.
func (p *poller) arm(w *watch, events uint32) error { return p.control(unix.EPOLL_CTL_MOD, w, events) }

func (p *poller) control(op int, w *watch, events uint32) error {
	e := unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(uint32(w.id)), Pad: int32(uint32(w.id >> 32))}
	if err := unix.EpollCtl(p.fd, op, w.fd, &e); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// remove ends a watch; it must come before its descriptor is closed, whose copies would keep it in the epoll set.
func (p *poller) remove(w *watch) {
	if w == nil {
		return
	}
	p.mu.Lock()
	delete(p.watches, w.id)
	p.mu.Unlock()
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, w.fd, nil) // it may be gone already
}

// close ends the poller and waits for what it has called.
func (p *poller) close() {
	p.file.Close()
	<-p.done
	p.wg.Wait()
}
