package dns

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of connections.
const (
	maxConns       = 1024
	maxConnsClient = 64
	idleConn       = 10 * time.Second
)

// accept takes the connections that wait.
func (s *Server) accept(c *client) {
	for range backlog {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return
		}
		fd, _, err := unix.Accept4(c.sockets.TCP, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		full := err == nil && c.conns >= maxConnsClient
		if err == nil && !full {
			c.conns++
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
		if full || !s.countConn(1) {
			unix.Close(fd)
			if !full {
				c.hangUp()
			}
			continue
		}
		s.wg.Go(func() {
			defer s.countConn(-1)
			defer c.hangUp()
			s.converse(c, os.NewFile(uintptr(fd), "name lookup"))
		})
	}
}

func (c *client) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns--
}

// countConn counts connections; it refuses one too many.
func (s *Server) countConn(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > 0 && s.conns >= maxConns {
		return false
	}
	s.conns += n
	return true
}

// converse answers the questions of a connection, one after another, until its client has no more.
func (s *Server) converse(c *client, conn *os.File) {
	defer conn.Close()
	stop := make(chan struct{})
	defer close(stop)
	s.wg.Go(func() {
		select {
		case <-s.ctx.Done():
			_ = conn.SetDeadline(time.Unix(1, 0))
		case <-stop:
		}
	})
	q := new(query)
	for s.ctx.Err() == nil {
		if conn.SetDeadline(time.Now().Add(idleConn)) != nil {
			return
		}
		p, err := readMessage(conn)
		if err != nil {
			return
		}
		out, ok := s.overTCP(c, q, p)
		if !ok {
			return
		}
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// overTCP answers one message, behind two bytes for its length.
func (s *Server) overTCP(c *client, q *query, p []byte) ([]byte, bool) {
	buf := make([]byte, 2, plainSize)
	rcode, ok := q.parse(p)
	switch {
	case !ok:
		return nil, false
	case rcode != rcodeOK:
		return bare(buf, q, rcode, 0), true
	}
	var room [16]netip.Addr
	if out, ok := s.local(buf, c, q, largestTCP, time.Now(), room[:0]); ok {
		return out, true
	}
	if !s.forward.admit(c) {
		return bare(buf, q, rcodeFail, 0), true
	}
	defer s.forward.release(c)
	return append(buf, s.remote(c, q, largestTCP)...), true
}

func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > packetSize { // no question is as large
		return nil, net.ErrClosed
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return p, err
}
