package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
)

// adopt takes over a process that a client has kept for a keeper that died.
func (k *keeper) adopt(m *task.Message) error {
	var h task.Held
	if err := m.Decode(&h); err != nil {
		m.CloseFDs()
		return err
	}
	got := map[task.Slot]int{}
	var sockets []int
	for i, slot := range h.Slots {
		switch {
		case i >= len(m.FDs):
		case slot == task.SlotSocket:
			sockets = append(sockets, m.FDs[i])
		default:
			got[slot] = m.FDs[i]
		}
	}
	pidfd, ok := got[task.SlotPIDFD]
	if !ok || len(m.FDs) != len(h.Slots) || !validName(h.ID) || h.ExecID != "" && !validName(h.ExecID) {
		m.CloseFDs()
		return fmt.Errorf("keeper: adopt %q: descriptors %v", h.ID, h.Slots)
	}
	k.mu.Lock()
	c := k.containers[h.ID]
	if c == nil {
		c = &container{k: k, id: h.ID}
		k.containers[h.ID] = c
	}
	k.mu.Unlock()
	if c.find(h.ExecID) != nil { // it is known: another client was first
		m.CloseFDs()
		return nil
	}
	rt := &runtime.Process{PID: h.PID, PIDFD: os.NewFile(uintptr(pidfd), "pidfd")}
	s := noStreams
	for slot, fd := range got {
		switch slot {
		case task.SlotPIDFD:
		case task.SlotStdin:
			s.stdin = fd
		case task.SlotStdout:
			s.stdout = fd
		case task.SlotStderr:
			s.stderr = fd
		case task.SlotConsole:
			rt.Console = os.NewFile(uintptr(fd), "console")
		default:
			unix.Close(fd)
		}
	}
	p := newProcess(c, h.ExecID, rt, s, h.Stdin)
	p.closesInput = h.ExecID != ""
	p.hold(sockets)
	if h.ExecID == "" {
		k.resume(c, p, h.State != task.Created)
	}
	p.take()
	return nil
}

// resume restores what a container's records say of its first process.
func (k *keeper) resume(c *container, p *process, started bool) {
	c.mu.Lock()
	c.started = started
	c.mu.Unlock()
	if r, err := k.records.readPID(c.id); err == nil {
		p.rt.CgroupPath = r.Cgroup
	}
	r, err := k.records.readTask(c.id, taskSuffix)
	if err != nil {
		slog.Warn("keeper: adopt", "container", c.id, "error", err)
		return
	}
	p.configure(r)
	if p.rt.CgroupPath == "" && r.Spec.Linux != nil {
		p.rt.CgroupPath = r.Spec.Linux.CgroupsPath
	}
	if p.out == nil && p.err == nil || k.records.readExit(c.id, "") != nil {
		return
	}
	log, err := logfile.Open(r.Log)
	if err != nil {
		c.logFailed(err)
		return
	}
	c.mu.Lock()
	c.log = log
	c.mu.Unlock()
}

// take begins to watch an adopted process, unless its end is on record.
func (p *process) take() {
	if x := p.k.records.readExit(p.c.id, p.execID); x != nil {
		p.settle(x)
		p.c.addProcess(p)
		return
	}
	p.c.addProcess(p)
	if err := p.listen(); err != nil {
		slog.Warn("keeper: adopt", "container", p.c.id, "error", err)
	}
	p.mustAwait()
	if p.execID == "" {
		p.watchMemory()
	}
}

// settle makes it a process whose end has been dealt with.
func (p *process) settle(x *task.Exit) {
	p.letSocketsGo()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exit, p.gone = x, true
	close(p.exited)
}

// settle deals, once in the keeper's life, with tasks on disk that no client has handed in. A fresh client did not know
// of them, so they are found again as far as possible; otherwise nobody was told that they exist, and they are ended.
func (k *keeper) settle(fresh bool) {
	k.mu.Lock()
	done := k.settled
	k.settled = true
	k.mu.Unlock()
	if done {
		return
	}
	gone, err := k.records.list(goneSuffix)
	ids, err2 := k.records.list(taskSuffix)
	if err := errors.Join(err, err2); err != nil {
		slog.Warn("keeper: records", "error", err)
	}
	for _, id := range gone {
		if validName(id) {
			k.removeLater(id, goneSuffix)
		}
	}
	for _, id := range ids {
		if !validName(id) {
			continue
		}
		if c := k.container(id); c != nil && c.process() != nil { // not one that has only attachments
			continue
		}
		if !fresh || !k.recover(id) {
			k.removeLater(id, taskSuffix)
		}
	}
	k.dropExits()
}

// dropExits removes the records of ends that nobody will ask for: of execs that no client has handed in, and of tasks
// that are no more.
func (k *keeper) dropExits() {
	names, err := k.records.list(exitSuffix)
	if err != nil {
		slog.Warn("keeper: records", "error", err)
	}
	for _, name := range names {
		id, execID, _ := strings.Cut(name, ".")
		if c := k.container(id); c != nil && (execID == "" || c.find(execID) != nil) {
			continue
		}
		if err := k.records.remove(name, exitSuffix); err != nil {
			slog.Warn("keeper: remove records", "error", err)
		}
	}
}

// removeLater removes the cgroup, processes and records of a task that is of no use any more.
func (k *keeper) removeLater(id, suffix string) {
	rt := &runtime.Process{}
	if r, err := k.records.readTask(id, suffix); err == nil && r.Spec.Linux != nil {
		rt.CgroupPath = r.Spec.Linux.CgroupsPath
	}
	if r, err := k.records.readPID(id); err == nil {
		rt.CgroupPath = r.Cgroup
		if fd, err := openSame(r); err == nil {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // it may have ended
			unix.Close(fd)
		}
	}
	if err := k.records.bury(id, nil); err != nil {
		slog.Warn("keeper: remove", "container", id, "error", err)
	}
	done := make(chan struct{})
	k.mu.Lock()
	k.removing[id] = done
	k.mu.Unlock()
	k.wg.Add(1)
	go func() {
		defer k.wg.Done()
		defer k.removed(id, done)
		if rt.CgroupPath == "" {
			_ = errors.Join(k.records.remove(id, pidSuffix), k.records.remove(id, goneSuffix))
			return
		}
		k.finishRemoval(context.Background(), id, rt)
	}()
}

// openSame returns a pidfd of the recorded process if it still is that one.
func openSame(r pidRecord) (int, error) {
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		return -1, err
	}
	if start, err := startTime(r.PID); err != nil || start != r.Start {
		unix.Close(fd)
		return -1, errors.Join(err, unix.ESRCH)
	}
	return fd, nil
}

// recover finds a task again after client and keeper have both died: its streams are lost, its life is not.
func (k *keeper) recover(id string) bool {
	r, err := k.records.readPID(id)
	x := k.records.readExit(id, "")
	if x == nil && (err != nil || !r.Started) {
		if r, err = k.find(id); err != nil {
			return false // it never ran
		}
	}
	c := &container{k: k, id: id, started: true}
	k.mu.Lock()
	k.containers[id] = c
	k.mu.Unlock()
	rt := &runtime.Process{PID: r.PID, CgroupPath: r.Cgroup}
	fd, err := -1, error(nil)
	if x == nil {
		fd, err = openSame(r)
	}
	if x != nil || err != nil {
		k.recoverEnded(c, rt, x)
		return true
	}
	rt.PIDFD = os.NewFile(uintptr(fd), "pidfd")
	p := newProcess(c, "", rt, noStreams, false)
	k.resume(c, p, true)
	p.take()
	return true
}

// find looks for the first process of a task whose keeper died before it could record it. Whoever lives in its control
// group was let go: children that wait for their start end with their parent.
func (k *keeper) find(id string) (pidRecord, error) {
	m, err := k.records.readTask(id, taskSuffix)
	if err != nil {
		return pidRecord{}, err
	}
	if m.Spec.Linux == nil || m.Spec.Linux.CgroupsPath == "" {
		return pidRecord{}, fmt.Errorf("container %s has no control group: %w", short(id), errdefs.ErrNotFound)
	}
	g, err := cgroup.Load(m.Spec.Linux.CgroupsPath)
	if err != nil {
		return pidRecord{}, err
	}
	pids, err := g.Processes()
	if err != nil {
		return pidRecord{}, err
	}
	var first pidRecord
	for _, pid := range pids {
		start, err := startTime(pid)
		if err == nil && (first.PID == 0 || start < first.Start) {
			first = pidRecord{PID: pid, Start: start, Cgroup: g.Path(), Started: true}
		}
	}
	if first.PID == 0 {
		return pidRecord{}, fmt.Errorf("container %s has no process: %w", short(id), errdefs.ErrNotFound)
	}
	return first, k.records.writePID(id, first)
}

// recoverEnded is a task that has ended: x tells how, unless nobody watched.
func (k *keeper) recoverEnded(c *container, rt *runtime.Process, x *task.Exit) {
	if x == nil {
		x = &task.Exit{ID: c.id, PID: rt.PID, Code: 255, Unknown: true, At: time.Now().UTC()}
		if err := k.records.writeExit(x); err != nil {
			slog.Warn("keeper: exit record", "container", c.id, "error", err)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		slog.Warn("keeper: recover", "container", c.id, "error", err)
		return
	}
	rt.PID, rt.PIDFD = x.PID, null // a process that has ended needs only something to hold
	if m, err := k.records.readTask(c.id, taskSuffix); err == nil && rt.CgroupPath == "" && m.Spec.Linux != nil {
		rt.CgroupPath = m.Spec.Linux.CgroupsPath
	}
	p := newProcess(c, "", rt, noStreams, false)
	p.settle(x)
	c.addProcess(p)
}
