package task

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// attached is the client's copy of an attachment, for the next keeper.
type attached struct {
	request AttachRequest
	fd      int
	sure    bool // the keeper has confirmed it
	ended   bool // the keeper has told of its end
}

// Attach hands the stream over. It returns when output from now on is sure to reach the stream. On success the stream
// has been closed here: the keeper has it. Otherwise it is the caller's still.
func (c *Client) Attach(ctx context.Context, r AttachRequest, stream *os.File) error {
	raw, err := stream.SyscallConn()
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	fd := -1
	if cerr := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil || err != nil {
		return fmt.Errorf("attach: %w", errors.Join(cerr, err))
	}
	a := &attached{request: r, fd: fd}
	a.request.Pending = nil // those bytes are the first keeper's
	c.mu.Lock()
	c.ticket++
	ticket := c.ticket
	c.attachments[ticket] = a
	c.mu.Unlock()
	_, err = c.call(ctx, true, KindAttach, AttachMessage{AttachRequest: r, Ticket: ticket}, fd)
	c.mu.Lock()
	defer c.mu.Unlock()
	a.sure = true
	if err != nil || a.ended || c.closed {
		c.dropAttachedLocked(ticket)
	}
	if err != nil {
		return err
	}
	stream.Close()
	return nil
}

// detached is the end of an attachment.
func (c *Client) detached(ticket uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.attachments[ticket]
	switch {
	case a == nil:
	case a.sure:
		c.dropAttachedLocked(ticket)
	default: // Attach still uses the descriptor
		a.ended = true
	}
}

func (c *Client) dropAttachedLocked(ticket uint64) {
	if a := c.attachments[ticket]; a != nil {
		unix.Close(a.fd)
		delete(c.attachments, ticket)
	}
}

// reattachLocked gives the attachments to a new keeper. Those that are not sure are sent again by Attach itself.
func (c *Client) reattachLocked(conn *Conn) error {
	for ticket, a := range c.attachments {
		if !a.sure {
			continue
		}
		if err := conn.Send(KindAttach, 0, AttachMessage{AttachRequest: a.request, Ticket: ticket}, a.fd); err != nil {
			return err
		}
	}
	return nil
}
