package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sweepEvery is how often the sweeper looks, while it has something to look for.
	sweepEvery = 100 * time.Millisecond
	// patience is how long a veth pair may outlive its container before it is deleted: something holds the namespace.
	patience = 2 * time.Second
)

// sweeper gives addresses back once the kernel has taken down the veth pair that had them. Deleting a pair oneself takes
// tens of milliseconds under the kernel's network lock; the kernel does many at once.
type sweeper struct {
	gone func(*endpoint)
	sock int
	rt   *rtnl
	wake chan struct{}
	quit chan struct{}
	done chan struct{}

	mu      sync.Mutex // guards pending
	pending []leftover
}

type leftover struct {
	*endpoint
	since time.Time
}

// newSweeper opens its sockets in the network namespace of the calling thread.
func newSweeper(gone func(*endpoint)) (*sweeper, error) {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	rt, err := dialRtnl()
	if err != nil {
		unix.Close(sock)
		return nil, err
	}
	s := &sweeper{gone: gone, sock: sock, rt: rt, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s, nil
}

// add hands over an endpoint whose namespace has been let go.
func (s *sweeper) add(e *endpoint) {
	s.mu.Lock()
	s.pending = append(s.pending, leftover{e, time.Now()})
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sweeper) close() {
	close(s.quit)
	<-s.done
	s.rt.close()
	unix.Close(s.sock)
}

func (s *sweeper) run() {
	defer close(s.done)
	tick := time.NewTimer(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-s.wake:
			tick.Reset(sweepEvery)
		case <-tick.C:
			if s.look() {
				tick.Reset(sweepEvery)
			}
		}
	}
}

// look goes through what is pending once, and says whether something is left.
func (s *sweeper) look() bool {
	s.mu.Lock()
	list := s.pending
	s.pending = nil
	s.mu.Unlock()
	var left []leftover
	for _, l := range list {
		if s.exists(l.veth) && (time.Since(l.since) < patience || s.rt.remove(l.veth) != nil) {
			left = append(left, l)
			continue
		}
		s.gone(l.endpoint)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, left...)
	return len(s.pending) > 0
}

// exists looks for a link by name, without the kernel's network lock.
func (s *sweeper) exists(link string) bool {
	r, err := unix.NewIfreq(link)
	if err != nil {
		return false
	}
	return unix.IoctlIfreq(s.sock, unix.SIOCGIFINDEX, r) == nil
}

// remove deletes a link; one that is not there is no error.
func (r *rtnl) remove(link string) error {
	m := newMessage("remove "+link, unix.RTM_DELLINK, 0).link(0, 0, 0).text(unix.IFLA_IFNAME, link)
	if err := r.do(m); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// removeAll deletes links as one group: the kernel waits once, not for each.
func (r *rtnl) removeAll(links []string) error {
	if len(links) == 0 {
		return nil
	}
	group := rand.Uint32() | 1 // never 0, in which everything is
	msgs := make([]*message, 0, len(links)+1)
	for _, l := range links {
		msgs = append(msgs, newMessage("group "+l, unix.RTM_NEWLINK, 0).link(0, 0, 0).text(unix.IFLA_IFNAME, l).u32(unix.IFLA_GROUP, group))
	}
	msgs = append(msgs, newMessage("remove links", unix.RTM_DELLINK, 0).link(0, 0, 0).u32(unix.IFLA_GROUP, group))
	// One that the kernel took away meanwhile is no error, nor is a group that is empty by then.
	if err := r.do(msgs...); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}
