package task

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// lost fails what is under way and begins to look for a new keeper.
func (c *Client) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = map[uint32]chan outcome{}
	for _, ch := range calls {
		ch <- outcome{err: errLost}
	}
	c.conn = nil
	if c.closed {
		return
	}
	c.up = make(chan struct{})
	for _, t := range c.tasks {
		t.orphan = true
		for _, e := range t.execs {
			e.orphan = true
		}
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.restore()
		c.buryOrphans()
	}()
}

// restore gives a new keeper everything that is held.
func (c *Client) restore() {
	c.buryChild()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-c.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	failures := 0
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		conn, err := c.connect(ctx)
		if err == nil {
			c.use(conn)
			return
		}
		if ctx.Err() != nil {
			return
		}
		slog.Error("no keeper", "error", err)
		if failures++; failures >= 3 { // requests need not wait for what is not likely to come
			c.mu.Lock()
			c.broken = err
			c.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// buryChild reaps the keeper, if it was this process's child and has ended; its socket closes a moment earlier.
func (c *Client) buryChild() {
	p := c.takeChild()
	if p == nil {
		return
	}
	for range 200 {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != nil || info.Signo != 0 {
			if state, err := p.Wait(); err == nil {
				slog.Warn("the keeper died and is replaced", "pid", p.Pid, "state", state.String())
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
	c.mu.Lock() // only the connection broke
	c.child = p
	c.mu.Unlock()
}

// connection waits for one.
func (c *Client) connection(ctx context.Context) (*Conn, error) {
	for {
		c.mu.Lock()
		conn, up, broken, closed := c.conn, c.up, c.broken, c.closed
		c.mu.Unlock()
		switch {
		case closed:
			return nil, fmt.Errorf("keeper client is closed: %w", errdefs.ErrUnavailable)
		case conn != nil:
			return conn, nil
		case broken != nil:
			return nil, fmt.Errorf("no keeper: %w: %w", broken, errdefs.ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the keeper: %w", ctx.Err())
		case <-c.quit:
		case <-up:
		case <-time.After(time.Second): // broken may have been set
		}
	}
}
