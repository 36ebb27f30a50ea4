package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// begin sends a request and returns where its outcome will be.
func (c *Client) begin(conn *Conn, kind Kind, body any, fds ...int) (<-chan outcome, error) {
	ch := make(chan outcome, 1)
	c.mu.Lock()
	if c.conn != conn {
		c.mu.Unlock()
		return nil, errLost
	}
	c.number++
	number := c.number
	c.calls[number] = ch
	c.mu.Unlock()
	err := conn.Send(kind, number, body, fds...)
	if err == nil {
		return ch, nil
	}
	c.mu.Lock()
	delete(c.calls, number)
	c.mu.Unlock()
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.ENOTCONN) {
		return nil, errLost
	}
	return nil, err
}

// call sends a request and waits for its outcome. One that is safe to repeat is repeated with the next keeper.
func (c *Client) call(ctx context.Context, repeat bool, kind Kind, body any, fds ...int) (outcome, error) {
	for {
		conn, err := c.connection(ctx)
		if err != nil {
			return outcome{}, err
		}
		ch, err := c.begin(conn, kind, body, fds...)
		if err == nil {
			select {
			case <-ctx.Done():
				return outcome{}, ctx.Err()
			case o := <-ch:
				if err = o.err; err == nil {
					return o, o.reply.Failure.Err()
				}
			}
		}
		if !errors.Is(err, errLost) {
			return outcome{}, err
		}
		if !repeat {
			return outcome{}, lostError()
		}
		c.awaitLoss(ctx, conn)
	}
}

// awaitLoss waits until a connection that failed is no longer the one in use.
func (c *Client) awaitLoss(ctx context.Context, conn *Conn) {
	conn.Close() // wakes its listener, whatever it was waiting for
	for ctx.Err() == nil {
		c.mu.Lock()
		gone := c.conn != conn
		c.mu.Unlock()
		if gone {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func lostError() error {
	return fmt.Errorf("%w during the request: %w", errLost, errdefs.ErrUnavailable)
}

// Start lets the created process go. An execve that fails is told as *ExecError, and the task is gone.
func (c *Client) Start(ctx context.Context, id string) error {
	_, err := c.call(ctx, false, KindStart, Target{ID: id})
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.findLocked(id, "")
	if h == nil {
		return err
	}
	var failed *ExecError
	switch {
	case err == nil && h.state == Created:
		h.state = Running
	case errors.As(err, &failed):
		delete(c.tasks, id)
		h.close()
	}
	return err
}

// Exec runs a further process. An execve that fails is told as *ExecError.
func (c *Client) Exec(ctx context.Context, r ExecRequest) (pid int, err error) {
	conn, err := c.connection(ctx)
	if err != nil {
		return 0, err
	}
	m := ExecMessage(r)
	ch, err := c.begin(conn, KindExec, m)
	if err == nil {
		select {
		case o := <-ch:
			if err = o.failure(); err == nil {
				return o.reply.Held.PID, nil
			}
		case <-ctx.Done():
			c.wg.Add(1)
			go c.abandonExec(r.ID, r.ExecID, ch)
			return 0, ctx.Err()
		}
	}
	if errors.Is(err, errLost) {
		return 0, lostError()
	}
	return 0, err
}

// abandonExec ends a process that nobody waits for any more.
func (c *Client) abandonExec(id, execID string, ch <-chan outcome) {
	defer c.wg.Done()
	select {
	case o := <-ch:
		if o.failure() == nil {
			_ = c.Kill(context.Background(), id, execID, syscall.SIGKILL) // its exit is told like any other
		}
	case <-c.quit:
	}
}

// Kill sends a signal to the first process, or to an exec, by pidfd. A process that has ended is errdefs.ErrNotFound.
func (c *Client) Kill(_ context.Context, id, execID string, sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.findLocked(id, execID)
	if h == nil || h.state == Stopped {
		return notRunning(id, execID)
	}
	err := unix.PidfdSendSignal(h.pidfd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return notRunning(id, execID)
	}
	if err != nil {
		return fmt.Errorf("send signal %d to container %.12s: %w", sig, id, err)
	}
	return nil
}

func notRunning(id, execID string) error {
	if execID != "" {
		return fmt.Errorf("exec %s in container %.12s is not running: %w", execID, id, errdefs.ErrNotFound)
	}
	return fmt.Errorf("container %.12s is not running: %w", id, errdefs.ErrNotFound)
}

// Resize sets the size of the terminal. Without a terminal it is errdefs.ErrFailedPrecondition.
func (c *Client) Resize(_ context.Context, id, execID string, rows, cols uint16) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.findLocked(id, execID)
	switch {
	case h == nil || h.state == Stopped:
		return notRunning(id, execID)
	case h.console < 0:
		return fmt.Errorf("resize: container %.12s has no terminal: %w", id, errdefs.ErrFailedPrecondition)
	}
	if err := unix.IoctlSetWinsize(h.console, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		return fmt.Errorf("resize terminal of container %.12s: %w", id, err)
	}
	return nil
}

// CloseStdin closes the process's standard input.
func (c *Client) CloseStdin(ctx context.Context, id, execID string) error {
	_, err := c.call(ctx, true, KindCloseStdin, Target{ID: id, ExecID: execID})
	return err
}

// List returns what the keeper holds.
func (c *Client) List(ctx context.Context) ([]Status, error) {
	o, err := c.call(ctx, true, KindList, nil)
	return o.reply.Tasks, err
}

// Delete forgets a stopped (or created: it is killed first) task, its cgroup and its exit record. Its log stays. A task
// that is not known is no error.
func (c *Client) Delete(ctx context.Context, id string) error {
	if _, err := c.call(ctx, true, KindDelete, Target{ID: id}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.tasks[id]; h != nil {
		h.reap()
		h.close()
		delete(c.tasks, id)
	}
	return nil
}

// DeleteExec forgets an exec that has ended.
func (c *Client) DeleteExec(ctx context.Context, id, execID string) error {
	if _, err := c.call(ctx, true, KindDeleteExec, Target{ID: id, ExecID: execID}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.findLocked(id, execID); h != nil && execID != "" {
		h.close()
		delete(c.tasks[id].execs, execID)
	}
	return nil
}

// PIDFD returns a pidfd of the task's first process, which the caller must not close. It is closed by Delete.
func (c *Client) PIDFD(id string) (*os.File, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.findLocked(id, "")
	if h == nil {
		return nil, false
	}
	if h.file == nil {
		h.file = os.NewFile(uintptr(h.pidfd), "pidfd")
	}
	return h.file, true
}
