package runtime

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// oomScore sets how likely the kernel's choice is to fall on the process when memory runs out, while the host's own
// /proc is in sight. The root of a new user namespace has no right to do that: its parent does it.
func (c *compiler) oomScore(fresh bool) {
	n := c.spec.Process.OOMScoreAdj
	if n == nil {
		return
	}
	if c.oomText = strconv.Itoa(*n); *n < c.in.facts.OOMScoreMin {
		c.oomText = strconv.Itoa(c.in.facts.OOMScoreMin)
		c.warn("oom_score_adj raised from %d to %d: this host does not allow less", *n, c.in.facts.OOMScoreMin)
	}
	if fresh && c.ns.fresh&unix.CLONE_NEWUSER != 0 {
		return
	}
	const name = "/proc/self/oom_score_adj"
	f := c.slot()
	c.c.call(unix.SYS_OPENAT, imm(unix.AT_FDCWD), c.str(name).arg(), imm(unix.O_WRONLY|unix.O_CLOEXEC)).into(f).at("open", name)
	c.c.call(unix.SYS_WRITE, f.arg(), c.str(c.oomText).arg(), imm(len(c.oomText))).at("write "+c.oomText, name)
}

// setOOMScore does it for the child.
func (ch *child) setOOMScore() error {
	if ch.c.oomText == "" {
		return nil
	}
	if err := writeFile(fmt.Sprintf("/proc/%d/oom_score_adj", ch.pid), ch.c.oomText); err != nil {
		return fmt.Errorf("set oom_score_adj: %w", err)
	}
	return nil
}
