package keeper

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/task"
)

// container is what the keeper knows by a container's id: its first process and execs, or only attachments that wait
// for them.
type container struct {
	k    *keeper
	id   string
	busy bool // it is being created or deleted; guarded by keeper.mu

	// files is held while the container's records on disk are written behind the caller's back.
	files sync.Mutex

	mu      sync.Mutex // guards all below
	first   *process
	started bool
	execs   map[string]*process
	waiting map[string][]*attachment // for processes that do not exist yet, by exec id
	log     *logfile.Writer
	logBad  bool // a write failed and was told of
}

// process returns the first process, or nil.
func (c *container) process() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

// find returns the first process or an exec, or nil.
func (c *container) find(execID string) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.findLocked(execID)
}

func (c *container) findLocked(execID string) *process {
	if execID == "" {
		return c.first
	}
	return c.execs[execID]
}

// processes lists the first process and the execs.
func (c *container) processes() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*process
	if c.first != nil {
		all = append(all, c.first)
	}
	for _, p := range c.execs {
		all = append(all, p)
	}
	return all
}

// addProcess makes a process known and gives it the attachments that waited for it.
func (c *container) addProcess(p *process) {
	c.mu.Lock()
	if p.execID == "" {
		c.first = p
	} else {
		if c.execs == nil {
			c.execs = map[string]*process{}
		}
		c.execs[p.execID] = p
	}
	waiting := c.waiting[p.execID]
	delete(c.waiting, p.execID)
	p.join(waiting...)
	c.mu.Unlock()
}

// attach connects an attachment, now or when its process comes. It returns false when the process has ended.
func (c *container) attach(a *attachment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.findLocked(a.req.ExecID)
	if p != nil {
		return p.join(a) || a.req.AcrossRestarts && c.waitLocked(a)
	}
	return c.waitLocked(a)
}

func (c *container) waitLocked(a *attachment) bool {
	if c.waiting == nil {
		c.waiting = map[string][]*attachment{}
	}
	c.waiting[a.req.ExecID] = append(c.waiting[a.req.ExecID], a)
	return true
}

// takeWaiting removes and returns the attachments that wait for processes.
func (c *container) takeWaiting() []*attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*attachment
	for _, w := range c.waiting {
		all = append(all, w...)
	}
	c.waiting = nil
	return all
}

// forget removes an exec.
func (c *container) forget(execID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, execID)
}

func (c *container) writer() *logfile.Writer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log
}

// logFailed tells of the first failure of many: each further line would fail for the same reason.
func (c *container) logFailed(err error) {
	c.mu.Lock()
	told := c.logBad
	c.logBad = true
	c.mu.Unlock()
	if !told {
		slog.Warn("keeper: output is not logged", "container", c.id, "error", err)
	}
}

func (c *container) closeLog() {
	c.mu.Lock()
	w := c.log
	c.log = nil
	c.mu.Unlock()
	if w == nil {
		return
	}
	if err := w.Close(); err != nil {
		c.logFailed(err)
	}
}

// status is what List tells; ok is false when there is no process.
func (c *container) status() (s task.Status, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		return s, false
	}
	s = task.Status{ID: c.id, PID: c.first.pid, State: task.Created, Exit: c.first.ended()}
	switch {
	case s.Exit != nil:
		s.State = task.Stopped
	case c.started:
		s.State = task.Running
	}
	for id, p := range c.execs {
		s.Execs = append(s.Execs, task.ExecStatus{ExecID: id, PID: p.pid, Exit: p.ended()})
	}
	slices.SortFunc(s.Execs, func(a, b task.ExecStatus) int { return a.PID - b.PID })
	return s, true
}
