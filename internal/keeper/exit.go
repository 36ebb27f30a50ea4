package keeper

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/task"
)

// onExit deals with the end of a process: status, last output, log, record, and only then the news of it.
func (p *process) onExit() {
	p.starting.Lock()
	failed := p.failed
	p.starting.Unlock()
	at := time.Now()
	p.letSocketsGo()
	status, known := p.status()
	p.k.mu.Lock()
	if p.k.children[p.pid] == p { // the number may be a new process's by now
		delete(p.k.children, p.pid)
	}
	p.k.mu.Unlock()
	defer p.k.sweepIfWanted()
	if failed {
		p.finishOutput()
		close(p.exited)
		return
	}
	x := p.describe(status, known, at)
	p.finishOutput()
	if p.execID == "" {
		p.c.closeLog()
	}
	if err := p.k.records.writeExit(x); err != nil {
		slog.Warn("keeper: exit record", "container", x.ID, "exec", x.ExecID, "error", err)
	}
	p.mu.Lock()
	p.exit = x
	p.mu.Unlock()
	p.k.emit(task.Event{Kind: task.EventExit, ID: x.ID, ExecID: x.ExecID, Exit: x})
	p.endAttachments()
	close(p.exited)
}

// status finds out how the process ended.
func (p *process) status() (unix.WaitStatus, bool) {
	fd := p.pidfdNumber
	if p.child {
		if s, err := reap(fd); err == nil {
			return s, true
		} else if !errors.Is(err, unix.ECHILD) {
			slog.Warn("keeper: wait for process", "pid", p.pid, "error", err)
		}
	}
	s, err := foreignStatus(fd, p.pid)
	return s, err == nil
}

func (p *process) describe(s unix.WaitStatus, known bool, at time.Time) *task.Exit {
	x := &task.Exit{ID: p.c.id, ExecID: p.execID, PID: p.pid, At: at.UTC()}
	switch {
	case !known:
		x.Unknown, x.Code = true, 255
	case s.Signaled():
		x.Signal = int(s.Signal())
		x.Code = 128 + x.Signal
	default:
		x.Code = s.ExitStatus()
	}
	// A shell tells of a program that was killed by its own status.
	killed := x.Code == 128+int(unix.SIGKILL)
	if p.execID == "" && p.rt.CgroupPath != "" && (p.memory || killed || x.Unknown) {
		p.addMemory(x)
	}
	return x
}

// addMemory says whether the kernel killed something in the container, while its cgroup is still there.
func (p *process) addMemory(x *task.Exit) {
	g, err := cgroup.Load(p.rt.CgroupPath)
	if err != nil {
		return // without a cgroup there is nothing to tell
	}
	kills, peak, limit, err := g.OOMKills()
	if err != nil {
		return
	}
	x.OOMKilled, x.MemoryPeak, x.MemoryLimit = kills > 0, peak, limit
	p.mu.Lock()
	o := p.oom
	p.mu.Unlock()
	if o == nil {
		o = &oomWatch{p: p, fd: -1}
	}
	o.tell(kills)
}

// finishOutput copies what is left of the output.
func (p *process) finishOutput() {
	p.input.close(!p.tty)
	p.mu.Lock()
	attached := p.attached
	p.mu.Unlock()
	for _, a := range attached {
		a.unblock()
	}
	until := time.Now().Add(patience)
	both := []*stream{p.out, p.err}
	if p.out.beganAfter(p.err) {
		slices.Reverse(both)
	}
	for _, s := range both {
		if s != nil {
			s.finish(until)
		}
	}
}

// endAttachments ends those that end with the process; the others wait for the container's next one.
func (p *process) endAttachments() {
	p.mu.Lock()
	attached := p.attached
	p.attached, p.gone = nil, true
	p.mu.Unlock()
	for _, a := range attached {
		if !a.req.AcrossRestarts {
			a.finish()
			continue
		}
		p.c.mu.Lock()
		p.c.waitLocked(a)
		p.c.mu.Unlock()
	}
}

// sweep reaps orphans that came to the keeper as subreaper. Processes that it watches are left to onExit, and it stays
// out of the way while runtime makes processes, whose helpers runtime waits for itself.
func (k *keeper) sweep() {
	for {
		if !k.making.TryLock() {
			return // whoever holds it calls sweepIfWanted when done
		}
		k.sweepWant.Store(false)
		hidden := k.reapOrphans()
		k.making.Unlock()
		if hidden { // by a process that onExit reaps, and sweeps again
			k.sweepWant.Store(true)
			return
		}
		if !k.sweepWant.Load() {
			return
		}
	}
}

func (k *keeper) reapOrphans() (hidden bool) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		pid := signalPID(&info)
		if err != nil || pid == 0 {
			return false
		}
		k.mu.Lock()
		_, known := k.children[pid]
		k.mu.Unlock()
		if known {
			return true
		}
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil {
			return false
		}
	}
}

func (k *keeper) sweepIfWanted() {
	if k.sweepWant.Load() {
		k.sweep()
	}
}
