package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config of a server. The zero value is the one for the host.
type Config struct {
	// ResolvConf names the host's resolvers, SystemdResolvConf those behind its local one. Empty: where they always are.
	ResolvConf, SystemdResolvConf string
}

// Server answers the containers of one daemon. It is safe for concurrent use.
type Server struct {
	zone    *zone
	forward *forwarder

	ctx    context.Context //nolint:containedctx // The server's own life, for questions that outlive the call that took them.
	cancel context.CancelFunc
	wg     sync.WaitGroup
	epoll  int
	wake   int

	mu      sync.Mutex // guards what follows
	clients map[string]*client
	byFD    map[int32]*client
	conns   int // of TCP
	expiry  *time.Timer
	closed  bool
}

// Client is what the server must know of a container besides its endpoints.
type Client struct {
	// Servers are the container's own resolvers (--dns), asked from within its network instead of the host's.
	Servers []netip.Addr
}

// client is a container that is served.
type client struct {
	id      string
	servers []netip.AddrPort
	group   string // tells the resolvers apart in the cache
	flying  int    // guarded by the forwarder's lock

	mu      sync.Mutex // guards what follows, and that sockets are open while they are used
	sockets Sockets
	closed  bool
	conns   int
}

// Open starts a server.
func Open(c Config) (*Server, error) {
	if c.ResolvConf == "" {
		c.ResolvConf, c.SystemdResolvConf = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open name server: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		unix.Close(epoll)
		if wake > 0 {
			unix.Close(wake)
		}
		return nil, fmt.Errorf("open name server: %w", err)
	}
	s := &Server{
		zone: newZone(), forward: newForwarder(c.ResolvConf, c.SystemdResolvConf),
		epoll: epoll, wake: wake, clients: map[string]*client{}, byFD: map[int32]*client{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.loop)
	return s, nil
}

// Close ends the server. Its sockets are closed here; whoever else holds them keeps them.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	if s.expiry != nil {
		s.expiry.Stop()
	}
	list := make([]*client, 0, len(s.clients))
	for _, c := range s.clients {
		list = append(list, c)
	}
	s.mu.Unlock()
	s.cancel()
	_, err := unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	s.wg.Wait()
	for _, c := range list {
		s.drop(c)
	}
	return errors.Join(err, unix.Close(s.epoll), unix.Close(s.wake))
}

// PutNetwork adds a network, or changes what is known of it.
func (s *Server) PutNetwork(n Network) { s.zone.putNetwork(n) }

// DropNetwork removes a network with all its names.
func (s *Server) DropNetwork(id string) { s.zone.dropNetwork(id) }

// Connect makes a container known in a network, which must be known; it replaces what was said of it there before.
func (s *Server) Connect(e Endpoint) error {
	if !s.zone.connect(e) {
		return fmt.Errorf("name server: network %s is not known", e.Network)
	}
	return nil
}

// Disconnect takes a container's names in a network away at once.
func (s *Server) Disconnect(container, network string) { s.zone.disconnect(container, network) }

// Serve begins to answer on a container's sockets, which are the server's from then on. A container that is served
// already gets the new ones instead.
func (s *Server) Serve(container string, sockets Sockets, o Client) error {
	c := &client{id: container, sockets: sockets}
	for _, a := range o.Servers {
		c.servers = append(c.servers, netip.AddrPortFrom(a.Unmap(), port))
	}
	if len(c.servers) > 0 {
		c.group = container // Its resolvers may be other ones than those of another container at the same address.
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		sockets.Close()
		return errors.New("name server: closed")
	}
	if old := s.clients[container]; old != nil {
		s.dropLocked(old)
	}
	for _, fd := range []int{sockets.UDP, sockets.TCP} {
		s.byFD[int32(fd)] = c
		if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			s.dropLocked(c)
			return fmt.Errorf("name server: %w", err)
		}
	}
	s.clients[container] = c
	return nil
}

// Leave ends a container's service. Its names answer for linger longer, or until it connects again.
func (s *Server) Leave(container string, linger time.Duration) {
	s.mu.Lock()
	if c := s.clients[container]; c != nil {
		s.dropLocked(c)
	}
	if !s.closed && s.expiry == nil && linger > 0 {
		s.expiry = time.AfterFunc(expireEvery, s.expire)
	}
	s.mu.Unlock()
	if linger <= 0 {
		s.zone.disconnect(container, "")
		return
	}
	s.zone.leave(container, time.Now().Add(linger))
}

// Forget ends a container's service and takes its names away: it is removed, or stopped by somebody.
func (s *Server) Forget(container string) { s.Leave(container, 0) }

// expire removes names whose time is over, while there are any.
func (s *Server) expire() {
	more := s.zone.expire(time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expiry = nil
	if more && !s.closed {
		s.expiry = time.AfterFunc(expireEvery, s.expire)
	}
}

const expireEvery = 2 * time.Second

func (s *Server) drop(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(c)
}

func (s *Server) dropLocked(c *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	for _, fd := range []int{c.sockets.UDP, c.sockets.TCP} {
		// Others may hold the socket, so closing it here does not end the watch.
		_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		delete(s.byFD, int32(fd))
	}
	c.sockets.Close()
	if s.clients[c.id] == c {
		delete(s.clients, c.id)
	}
}

// of finds whose descriptor it is.
func (s *Server) of(fd int32) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byFD[fd]
}

// local answers a question that needs nobody else: ok is false for others.
func (s *Server) local(buf []byte, c *client, q *query, limit int, now time.Time, room []netip.Addr) (_ []byte, ok bool) {
	if rcode := unserved(q); rcode != rcodeOK {
		return bare(buf, q, rcode, 0), true
	}
	if out, ok := s.zone.look(c.id, q, room).write(buf, q, limit); ok {
		return out, true
	}
	if len(c.servers) == 0 {
		if !s.zone.outward(c.id) {
			return bare(buf, q, rcodeNone, 0), true
		}
		s.forward.host.list(now) // what was remembered from other resolvers is forgotten first
	}
	var room2 [maxName + 80]byte
	if r, age := s.forward.cache.get(appendKey(room2[:0], c.group, q), now); r != nil {
		return r.appendTo(buf, q, age, limit), true
	}
	return buf, false
}

// unserved is the answer to questions that are never answered: transfers of zones, and classes other than the internet.
func unserved(q *query) int {
	switch {
	case q.class != classIN, q.kind == typeAXFR, q.kind == typeIXFR:
		return rcodeNot
	case q.kind == typeOPT:
		return rcodeForm
	}
	return rcodeOK
}

// remote answers a question by asking resolvers.
func (s *Server) remote(c *client, q *query, limit int) []byte {
	r := s.forward.resolve(s.ctx, c, q)
	if r == nil {
		return bare(nil, q, rcodeFail, 0)
	}
	return r.appendTo(nil, q, time.Since(r.got), limit)
}
