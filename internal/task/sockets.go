package task

import (
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
