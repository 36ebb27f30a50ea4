package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Client makes requests to one daemon. It is safe for concurrent use; every request that waits has a connection of its
// own, and finished ones leave theirs for the next.
type Client struct {
	endpoint Endpoint
	agent    string
	start    *Starter
	first    chan struct{} // closed by the first connection
	once     sync.Once

	mu      sync.Mutex // guards what follows
	idle    []*conn
	version string
	known   bool // the daemon accepted version
}

// Options configure a Client. The zero value is useful.
type Options struct {
	// Agent is the program's own version, for the User-Agent field.
	Agent string
	// API is the version to speak; NewestAPI when empty.
	API string
	// Start starts the daemon of an own endpoint when there is none; nil forbids it.
	Start *Starter
}

// New makes a client. It connects with the first request.
func New(e Endpoint, o Options) *Client {
	if o.API == "" {
		o.API = NewestAPI
	}
	return &Client{
		endpoint: e, agent: "kist/" + o.Agent + " (" + runtime.GOOS + ")", start: o.Start, first: make(chan struct{}),
		version: o.API, known: e.Own,
	}
}

// Passive returns a client for the same daemon that never starts it.
func (c *Client) Passive() *Client {
	return &Client{endpoint: c.endpoint, agent: c.agent, first: make(chan struct{}), version: c.APIVersion(), known: c.isKnown()}
}

// Endpoint returns where the client connects.
func (c *Client) Endpoint() Endpoint { return c.endpoint }

// APIVersion returns the version that is spoken.
func (c *Client) APIVersion() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// conn is one connection to the daemon.
type conn struct {
	transport
	r    *bufio.Reader
	used bool // answered a request before
}

// ConnectMore makes connections ahead of the requests that will need them, once there is a first one. A failure is left to
// the request.
func (c *Client) ConnectMore(n int) {
	select {
	case <-c.first:
	case <-time.After(dialTimeout):
		return
	}
	for range n {
		t, err := c.endpoint.dial()
		if err != nil {
			return
		}
		c.put(&conn{transport: t, r: bufio.NewReader(t)})
	}
}

// Close closes the connections that no request uses.
func (c *Client) Close() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, cn := range idle {
		cn.Close()
	}
}

// get returns an idle connection or a new one.
func (c *Client) get() (*conn, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		cn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return cn, nil
	}
	c.mu.Unlock()
	return c.fresh()
}

// fresh connects, and starts the daemon if that is what is missing.
func (c *Client) fresh() (*conn, error) {
	t, err := c.endpoint.dial()
	if err != nil && c.endpoint.Own && c.start != nil && notRunning(err) {
		if err := c.start.run(c.endpoint); err != nil {
			return nil, err
		}
		t, err = c.endpoint.dial()
	}
	if err != nil {
		return nil, c.endpoint.explain(err)
	}
	c.once.Do(func() { close(c.first) })
	return &conn{transport: t, r: bufio.NewReader(t)}, nil
}

func (c *Client) put(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, cn)
}

// attachBody makes the body of resp, which gives its connection back when it was read to the end.
func (c *Client) attachBody(r *Request, cn *conn, resp *Response) error {
	src, reusable, err := resp.body(r.Method, cn.r)
	if err != nil {
		cn.Close()
		return err
	}
	resp.Body = &body{Reader: src, client: c, conn: cn, reusable: reusable && r.Stream == nil}
	return nil
}

// roundTrip sends a request and reads the head of its answer. A kept connection that the daemon closed meanwhile is
// replaced once.
func (c *Client) roundTrip(r *Request, hijack bool) (*conn, *Response, error) {
	cn, err := c.get()
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.exchange(cn, r, hijack)
	if err == nil {
		return cn, resp, nil
	}
	cn.Close()
	if !cn.used || !repeatable(r, err) {
		return nil, nil, c.endpoint.lost(err)
	}
	if cn, err = c.fresh(); err != nil {
		return nil, nil, err
	}
	if resp, err = c.exchange(cn, r, hijack); err != nil {
		cn.Close()
		return nil, nil, c.endpoint.lost(err)
	}
	return cn, resp, nil
}

// repeatable tells that a request whose connection was lost may be made again: the daemon never got it, or it changes
// nothing.
func repeatable(r *Request, err error) bool {
	if r.Stream != nil || !lostConn(err) {
		return false
	}
	return errors.Is(err, syscall.EPIPE) || r.Method == "GET" || r.Method == "HEAD"
}

func (c *Client) exchange(cn *conn, r *Request, hijack bool) (*Response, error) {
	head, err := r.appendHead(make([]byte, 0, 512+len(r.Body)), c.APIVersion(), c.agent, hijack)
	if err != nil {
		return nil, err
	}
	if _, err := cn.Write(append(head, r.Body...)); err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	if r.Stream == nil {
		return readHead(cn.r)
	}
	sent := make(chan error, 1)
	go func() { sent <- writeChunks(cn, r.Stream) }()
	resp, err := readHead(cn.r)
	if err != nil {
		// A body that could not be read is the cause, and the lost answer its effect.
		select {
		case serr := <-sent:
			if serr != nil {
				return nil, serr
			}
		default:
		}
		return nil, err
	}
	return resp, nil
}

// body gives its connection back when it was read to the end, and closes it otherwise.
type body struct {
	io.Reader
	client   *Client
	conn     *conn
	reusable bool
	ended    bool
	once     sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.ended = true
	}
	return n, err
}

func (b *body) Close() error {
	b.once.Do(func() {
		if !b.ended && b.reusable {
			// The end of a short body may be in the buffer already.
			var one [1]byte
			if b.conn.r.Buffered() > 0 {
				n, err := b.Reader.Read(one[:])
				b.ended = n == 0 && err == io.EOF
			}
		}
		if b.ended && b.reusable {
			b.conn.used = true
			b.client.put(b.conn)
			return
		}
		b.conn.Close()
	})
	return nil
}
