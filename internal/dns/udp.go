package dns

import (
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize  = 32
	packetSize = 1500 // questions are small
)

// batch is the memory for the packets of one system call, and what goes with each.
type batch struct {
	in, out   [batchSize]mmsghdr
	iovIn     [batchSize]unix.Iovec
	iovOut    [batchSize]unix.Iovec
	from      [batchSize]unix.RawSockaddrInet4
	questions [batchSize][packetSize]byte
	answers   [batchSize][largestUDP]byte
	query     query
	addrs     [16]netip.Addr
}

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	unix.Msghdr
	size uint32
	_    [4]byte
}

func newBatch() *batch {
	b := new(batch)
	for i := range batchSize {
		b.iovIn[i].Base = &b.questions[i][0]
		b.iovIn[i].SetLen(packetSize)
		b.in[i].Name = (*byte)(unsafe.Pointer(&b.from[i]))
		b.in[i].Iov = &b.iovIn[i]
		b.in[i].SetIovlen(1)
		b.out[i].Iov = &b.iovOut[i]
		b.out[i].SetIovlen(1)
	}
	return b
}

// receive reads the packets that are there.
func (b *batch) receive(fd int) int {
	for i := range batchSize {
		b.in[i].Namelen = uint32(unsafe.Sizeof(b.from[i]))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// send sends the first n answers. One that cannot be sent is left out: its client asks again.
func (b *batch) send(fd, n int) {
	for done := 0; done < n; {
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[done])), uintptr(n-done), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			done++
		default:
			done += int(sent)
		}
	}
}

// loop serves all sockets until the server is closed.
func (s *Server) loop() {
	b := newBatch()
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return // the descriptor is bad: there is nobody to serve
		}
		now := time.Now()
		for _, e := range events[:max(n, 0)] {
			if e.Fd == int32(s.wake) {
				return
			}
			c := s.of(e.Fd)
			if c == nil {
				continue
			}
			if int(e.Fd) == c.sockets.TCP {
				s.accept(c)
				continue
			}
			s.answer(c, b, now)
		}
	}
}

// answer takes what questions wait in a client's socket, and sends the answers that are known.
func (s *Server) answer(c *client, b *batch, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	n := b.receive(c.sockets.UDP)
	out := 0
	for i := range n {
		if b.in[i].Flags&unix.MSG_TRUNC != 0 {
			continue
		}
		p, ok := s.reply(c, b, b.questions[i][:b.in[i].size], b.answers[out][:0], &b.from[i], now)
		if !ok {
			continue
		}
		b.iovOut[out].Base = &p[0]
		b.iovOut[out].SetLen(len(p))
		b.out[out].Name, b.out[out].Namelen = b.in[i].Name, b.in[i].Namelen
		out++
	}
	b.send(c.sockets.UDP, out)
}

// reply answers one packet, if it can be done at once.
func (s *Server) reply(c *client, b *batch, p, buf []byte, from *unix.RawSockaddrInet4, now time.Time) ([]byte, bool) {
	q := &b.query
	rcode, ok := q.parse(p)
	if !ok {
		return nil, false
	}
	if rcode != rcodeOK {
		return bare(buf, q, rcode, 0), true
	}
	if out, ok := s.local(buf, c, q, q.size, now, b.addrs[:0]); ok {
		return out, true
	}
	if !s.forward.admit(c) {
		return bare(buf, q, rcodeFail, 0), true
	}
	later, to := *q, *from
	s.wg.Go(func() {
		defer s.forward.release(c)
		c.send(s.remote(c, &later, later.size), &to)
	})
	return nil, false
}

// send sends one packet to where a question came from.
func (c *client) send(p []byte, to *unix.RawSockaddrInet4) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	port := (*[2]byte)(unsafe.Pointer(&to.Port))
	addr := unix.SockaddrInet4{Port: int(port[0])<<8 | int(port[1]), Addr: to.Addr}
	_ = unix.Sendto(c.sockets.UDP, p, unix.MSG_DONTWAIT, &addr) // who asked may be gone
}
