package task

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// orphanTimes are when strays of a keeper that died are looked for: most end with it, some a moment later, when its
// successor ends what nobody was told of.
var orphanTimes = []time.Duration{50 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second}

// buryOrphans reaps processes that this one inherited, as subreaper, from a keeper that died before it could tell of
// them. Nobody else would.
func (c *Client) buryOrphans() {
	for _, wait := range orphanTimes {
		select {
		case <-c.quit:
			return
		case <-time.After(wait):
		}
		for _, pid := range inherited() {
			if !c.knows(pid) {
				_ = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG, nil) // it may still run
			}
		}
	}
}

// knows says whether the process is held, or is the keeper: its end is waited for elsewhere.
func (c *Client) knows(pid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pid == c.keeper || c.child != nil && pid == c.child.Pid {
		return true
	}
	for _, t := range c.tasks {
		if t.pid == pid && t.pidfd >= 0 {
			return true
		}
		for _, e := range t.execs {
			if e.pid == pid {
				return true
			}
		}
	}
	return false
}

// inherited lists the children of this process that it did not make: the keeper has a session of its own, and its
// children are in that one or in sessions of theirs.
func inherited() []int {
	own, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []int
	for _, file := range lists {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if sid, err := unix.Getsid(pid); err == nil && sid != own {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
