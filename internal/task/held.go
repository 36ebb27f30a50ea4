package task

import (
	"os"

	"golang.org/x/sys/unix"
)

// holding is the client's copy of what the keeper holds for one process. Descriptors are plain numbers, -1 if there is
// none: there may be thousands.
type holding struct {
	pid                                   int
	pidfd, stdin, stdout, stderr, console int
	state                                 State
	writable                              bool     // attachments may write to its terminal
	orphan                                bool     // the keeper is not its parent
	told                                  bool     // its exit was delivered
	file                                  *os.File // the pidfd for PIDFD, once somebody asked
	sockets                               []int    // of CreateRequest

	execs map[string]*holding
}

func newHolding(h *Held, fds []int) *holding {
	e := &holding{pid: h.PID, pidfd: -1, stdin: -1, stdout: -1, stderr: -1, console: -1}
	e.state, e.writable, e.orphan = h.State, h.Stdin, !h.Child
	for i, fd := range fds {
		slot := Slot(0)
		if i < len(h.Slots) {
			slot = h.Slots[i]
		}
		if slot == SlotSocket {
			e.sockets = append(e.sockets, fd)
			continue
		}
		if place := e.place(slot); place != nil && *place < 0 {
			*place = fd
			continue
		}
		unix.Close(fd)
	}
	return e
}

func (e *holding) place(s Slot) *int {
	switch s {
	case SlotPIDFD:
		return &e.pidfd
	case SlotStdin:
		return &e.stdin
	case SlotStdout:
		return &e.stdout
	case SlotStderr:
		return &e.stderr
	case SlotConsole:
		return &e.console
	}
	return nil
}

// describe is the reverse of newHolding: for a new keeper.
func (e *holding) describe(id, execID string) (Held, []int) {
	h := Held{ID: id, ExecID: execID, PID: e.pid, State: e.state, Terminal: e.console >= 0, Stdin: e.writable}
	var fds []int
	for s := SlotPIDFD; s <= SlotConsole; s++ {
		if fd := *e.place(s); fd >= 0 {
			h.Slots, fds = append(h.Slots, s), append(fds, fd)
		}
	}
	for _, fd := range e.sockets {
		h.Slots, fds = append(h.Slots, SlotSocket), append(fds, fd)
	}
	return h, fds
}

// closeStdin gives the process's input up, which ends when nobody holds it.
func (e *holding) closeStdin() {
	if e.stdin >= 0 {
		unix.Close(e.stdin)
		e.stdin = -1
	}
}

// closeStdio gives up all but the pidfd: the process's streams and its network's sockets.
func (e *holding) closeStdio() {
	for _, fd := range []*int{&e.stdin, &e.stdout, &e.stderr, &e.console} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	for _, fd := range e.sockets {
		unix.Close(fd)
	}
	e.sockets = nil
}

func (e *holding) close() {
	for _, x := range e.execs {
		x.close()
	}
	e.closeStdio()
	switch {
	case e.file != nil:
		e.file.Close() // owns the pidfd
	case e.pidfd >= 0:
		unix.Close(e.pidfd)
	}
	e.file, e.pidfd = nil, -1
}

// reap takes a zombie away that this process inherited as subreaper from a keeper that died. Its status has been read.
func (e *holding) reap() {
	if e.orphan && e.pidfd >= 0 {
		_ = unix.Waitid(unix.P_PIDFD, e.pidfd, nil, unix.WEXITED|unix.WNOHANG, nil) // ECHILD: somebody else's
	}
}

// keep stores what the keeper handed over. A copy of what is held already is closed.
func (c *Client) keep(h *Held, fds []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := newHolding(h, fds)
	old := c.findLocked(h.ID, h.ExecID)
	if c.closed || old != nil {
		if old != nil {
			old.orphan = e.orphan
			if e.stdin < 0 { // its input ended while nobody could be told
				old.closeStdin()
			}
		}
		e.close()
		return
	}
	if h.ExecID == "" {
		if t := c.tasks[h.ID]; t != nil { // made for an exec that came first
			e.execs = t.execs
		}
		c.tasks[h.ID] = e
		return
	}
	t := c.tasks[h.ID]
	if t == nil {
		t = &holding{pidfd: -1, stdin: -1, stdout: -1, stderr: -1, console: -1}
		c.tasks[h.ID] = t
	}
	if t.execs == nil {
		t.execs = map[string]*holding{}
	}
	t.execs[h.ExecID] = e
}

// findLocked returns what is held, or nil. The caller holds c.mu.
func (c *Client) findLocked(id, execID string) *holding {
	t := c.tasks[id]
	if t == nil {
		return nil
	}
	if execID != "" {
		return t.execs[execID]
	}
	if t.pidfd < 0 { // only a place for its execs
		return nil
	}
	return t
}

// handIn gives everything to a new keeper. One that is not new has it all, and ignores the processes.
func (c *Client) handIn(conn *Conn, keeper int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if keeper != c.keeper {
		// Before the processes, so that none of their output goes past them.
		if err := c.reattachLocked(conn); err != nil {
			return err
		}
	}
	c.keeper = keeper
	for id, t := range c.tasks {
		if t.pidfd >= 0 {
			if err := t.handIn(conn, id, ""); err != nil {
				return err
			}
		}
		for execID, e := range t.execs {
			if err := e.handIn(conn, id, execID); err != nil {
				return err
			}
		}
	}
	return conn.Send(KindReady, 0, Ready{Fresh: c.fresh})
}

func (e *holding) handIn(conn *Conn, id, execID string) error {
	h, fds := e.describe(id, execID)
	return conn.Send(KindAdopt, 0, h, fds...)
}
