package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Config is what Open needs.
type Config struct {
	// Dir is the keeper's directory below the exec root: socket, exit records, log of the keeper itself.
	Dir string
	// Command starts a keeper: its program's path and its arguments. The directory is also given as KIST_KEEPER_DIR. It
	// must daemonise by nothing: the Client starts it as its own child in a session of its own.
	Command []string
}

// Client talks to the keeper, starts one when there is none, and holds a copy of all that it holds. It is safe for
// concurrent use.
type Client struct {
	config Config
	events chan Event
	queue  *eventQueue
	wg     sync.WaitGroup

	profile sync.Mutex // held while a profile and the request that names it are sent in order

	mu     sync.Mutex // guards all below
	conn   *Conn      // nil while there is none
	up     chan struct{}
	broken error // why there is none, while that is known
	calls  map[uint32]chan outcome
	number uint32
	tasks  map[string]*holding
	sent   map[string]struct{} // keys of the profiles that this connection's keeper has
	child  *os.Process         // the keeper, if this process started it
	keeper int                 // its pid, whoever started it
	speaks int                 // its version of the protocol

	attachments map[uint64]*attached // by ticket
	ticket      uint64
	claims      map[string]chan Exit // by task

	fresh  bool
	closed bool
	quit   chan struct{}
}

// outcome is how a request ended.
type outcome struct {
	reply Reply
	err   error
}

// errLost says that the keeper went away with a request.
var errLost = errors.New("the keeper died")

// Open connects to the running keeper, or starts one. The calling process becomes a child subreaper.
func Open(ctx context.Context, config Config) (*Client, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	c := &Client{
		config: config, events: make(chan Event), queue: newEventQueue(), up: make(chan struct{}),
		calls: map[uint32]chan outcome{}, tasks: map[string]*holding{}, attachments: map[uint64]*attached{},
		claims: map[string]chan Exit{}, fresh: true, quit: make(chan struct{}),
	}
	conn, err := c.connect(ctx)
	if err != nil {
		for _, t := range c.tasks {
			t.close()
		}
		return nil, err
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.queue.pump(c.events, c.quit)
	}()
	c.use(conn)
	return c, nil
}

// use makes a greeted connection the one that requests take.
func (c *Client) use(conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return
	}
	c.conn, c.fresh, c.broken, c.sent = conn, false, nil, map[string]struct{}{}
	close(c.up)
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.listen(conn)
	}()
}

// Close leaves the keeper and its containers running.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	close(c.quit)
	if c.conn != nil {
		c.conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tasks {
		t.close()
	}
	c.tasks = nil
	for ticket, a := range c.attachments {
		if a.sure {
			c.dropAttachedLocked(ticket)
		}
	}
	close(c.events)
	return nil
}

// Events delivers exits and other notices, exits of the time before Open included. Exactly one reader. An exit is
// delivered again by the next Open until Delete (or DeleteExec) acknowledges it. The channel is closed by Close.
func (c *Client) Events() <-chan Event { return c.events }

// listen takes what comes from the keeper until it goes, then looks for another.
func (c *Client) listen(conn *Conn) {
	for {
		m, err := conn.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				slog.Warn("keeper connection", "error", err)
			}
			conn.Close()
			c.lost()
			return
		}
		switch m.Kind {
		case KindReply:
			c.deliver(m)
		case KindEvent:
			m.CloseFDs()
			var e Event
			if m.Decode(&e) == nil {
				c.notice(e)
			}
		case KindStdinClosed:
			m.CloseFDs()
			var t Target
			if m.Decode(&t) == nil {
				c.stdinClosed(t)
			}
		case KindDetached:
			m.CloseFDs()
			var d Detached
			if m.Decode(&d) == nil {
				c.detached(d.Ticket)
			}
		default: // a later version's
			m.CloseFDs()
		}
	}
}

func (c *Client) deliver(m *Message) {
	var o outcome
	o.err = m.Decode(&o.reply)
	if o.err == nil && o.reply.Failure == nil && o.reply.Held != nil {
		c.keep(o.reply.Held, m.FDs) // at once: its exit may be the next message
		m.FDs = nil
	}
	m.CloseFDs()
	c.mu.Lock()
	ch := c.calls[m.Number]
	delete(c.calls, m.Number)
	c.mu.Unlock()
	if ch != nil {
		ch <- o // it has room for one
	}
}

// notice passes an event on, once.
func (c *Client) notice(e Event) {
	if e.Kind == EventExit {
		c.mu.Lock()
		if h := c.findLocked(e.ID, e.ExecID); h != nil {
			if h.told {
				c.mu.Unlock()
				return
			}
			h.told, h.state = true, Stopped
			h.closeStdio()
			h.reap()
		}
		c.mu.Unlock()
	}
	if !c.claimed(e) {
		c.queue.push(e)
	}
}

func (c *Client) stdinClosed(t Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.findLocked(t.ID, t.ExecID); h != nil {
		h.closeStdin()
	}
}
