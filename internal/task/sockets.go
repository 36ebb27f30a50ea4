package task

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// keeperVersion is the version of the protocol that the keeper speaks.
func (c *Client) keeperVersion() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(c.speaks, Version)
}

// Sockets returns copies of the sockets that came with the task's CreateRequest, in their order; they are the caller's.
// There are none once the process has ended, or when the keeper and the client's process have both died since.
func (c *Client) Sockets(id string) ([]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.findLocked(id, "")
	if h == nil {
		return nil, nil
	}
	var copies []int
	for _, fd := range h.sockets {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			for _, fd := range copies {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("copy sockets of container %.12s: %w", id, err)
		}
		copies = append(copies, n)
	}
	return copies, nil
}

// Hold has further sockets kept open until the task's process ends, as those of its CreateRequest. They stay the caller's.
// A keeper that is too old for it keeps none.
func (c *Client) Hold(ctx context.Context, id string, sockets []int) error {
	if c.keeperVersion() < 2 {
		return nil
	}
	if _, err := c.call(ctx, false, KindHold, Target{ID: id}, sockets...); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.findLocked(id, "")
	if h == nil || h.state == Stopped {
		return nil
	}
	for _, fd := range sockets {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("copy sockets of container %.12s: %w", id, err)
		}
		h.sockets = append(h.sockets, n)
	}
	return nil
}
