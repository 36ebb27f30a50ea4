package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
)

// create makes a container's first process, and lets it go if the message says so. It replies unless it fails.
func (s *session) create(ctx context.Context, m *task.Message) error {
	var r task.CreateMessage
	if err := m.Decode(&r); err != nil {
		m.CloseFDs()
		return err
	}
	netns, sockets := takeNetwork(&r, m)
	defer func() { closeFDs(sockets) }()
	if netns != nil {
		defer netns.Close()
	}
	if !validName(r.ID) || r.Spec == nil || r.Spec.Process == nil {
		return fmt.Errorf("create container %q: id or specification: %w", r.ID, errdefs.ErrInvalidArgument)
	}
	if err := s.k.profiles.complete(&r); err != nil {
		return fmt.Errorf("create container %s: %w", r.ID, err)
	}
	c, err := s.k.reserve(ctx, r.ID)
	if err != nil {
		return err
	}
	c.files.Lock()
	p, err := s.k.makeFirst(ctx, c, &r, m.Body, netns)
	if p != nil {
		p.starting.Lock()
	}
	if err == nil {
		s.k.unreserve(c)
		if r.Start {
			err = s.k.letGo(ctx, p)
		}
	}
	if err != nil {
		s.k.abandon(ctx, c, p)
		c.files.Unlock()
		return err
	}
	p.hold(sockets)
	sockets = nil
	held, fds := p.held()
	if !r.Start {
		held.State = task.Created
	}
	s.reply(m.Number, task.Reply{Held: &held, Warnings: p.rt.Warnings}, fds...)
	p.starting.Unlock()
	p.mustAwait()
	go func() {
		defer c.files.Unlock()
		s.k.recordPID(p, r.Start)
		p.watchMemory()
	}()
	return nil
}

// mustAwait watches for the process's end.
func (p *process) mustAwait() {
	if err := p.await(); err != nil { // epoll's own limits: better a thread than a lost exit
		slog.Warn("keeper: watch process", "pid", p.pid, "error", err)
		go func() {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.pidfdNumber), Events: unix.POLLIN}}, -1)
			p.onExit()
		}()
	}
}

// takeNetwork takes the network namespace and the sockets in it that came with the message.
func takeNetwork(r *task.CreateMessage, m *task.Message) (netns *os.File, sockets []int) {
	if len(r.Slots) == 0 || r.Slots[0] != task.SlotNetNS || len(m.FDs) != len(r.Slots) {
		m.CloseFDs()
		return nil, nil
	}
	for i, slot := range r.Slots[1:] {
		if slot == task.SlotSocket {
			sockets = append(sockets, m.FDs[i+1])
		} else {
			unix.Close(m.FDs[i+1])
		}
	}
	netns = os.NewFile(uintptr(m.FDs[0]), "netns")
	m.FDs = nil
	return netns, sockets
}

// lockUnlessRemoving locks k.mu at a moment when no removal of id's last task is under way.
func (k *keeper) lockUnlessRemoving(ctx context.Context, id string) error {
	for {
		k.mu.Lock()
		removing := k.removing[id]
		if removing == nil {
			return nil
		}
		k.mu.Unlock()
		select {
		case <-removing:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reserve finds or makes the container's entry, once the removal of its last task has ended.
func (k *keeper) reserve(ctx context.Context, id string) (*container, error) {
	if err := k.lockUnlessRemoving(ctx, id); err != nil {
		return nil, err
	}
	defer k.mu.Unlock()
	c := k.containers[id]
	if c == nil {
		c = &container{k: k, id: id}
		k.containers[id] = c
	}
	if c.busy || c.process() != nil {
		return nil, fmt.Errorf("task of container %s exists: %w", id, errdefs.ErrAlreadyExists)
	}
	c.busy = true
	return c, nil
}

func (k *keeper) unreserve(c *container) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.busy = false
}

// makeFirst makes the process with its log and streams, paused. The record comes first, so that a keeper that dies in
// between leaves no cgroup that the next one cannot find; the log, which is on a disk, is opened beside it.
func (k *keeper) makeFirst(ctx context.Context, c *container, r *task.CreateMessage, message []byte, netns *os.File) (*process, error) {
	if r.Private {
		var err error
		if message, err = withoutEnv(r); err != nil {
			return nil, fmt.Errorf("create container %s: %w", short(r.ID), err)
		}
	}
	err := k.records.writeTask(r.ID, message)
	k.recent.forget(r.ID)
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", short(r.ID), err)
	}
	prepared := make(chan error, 1)
	go func() {
		log, err := logfile.Open(r.Log)
		if err == nil {
			c.mu.Lock()
			c.log = log
			c.mu.Unlock()
		}
		prepared <- err
	}()
	p, err := k.spawn(c, "", r.Spec.Process, r.Stdin, func(io runtime.Stdio) (*runtime.Process, error) {
		if r.Merged {
			io.Stderr = io.Stdout
		}
		return k.rt.Create(ctx, runtime.Bundle{ID: r.ID, Spec: r.Spec, Rootfs: r.Rootfs, NetNS: netns}, io)
	})
	if perr := <-prepared; perr != nil {
		err = errors.Join(err, perr)
	}
	if err != nil {
		return p, fmt.Errorf("create container %s: %w", short(r.ID), err)
	}
	p.configure(r)
	c.addProcess(p)
	if err := p.listen(); err != nil {
		return p, fmt.Errorf("create container %s: %w", short(r.ID), err)
	}
	return p, nil
}

// withoutEnv is the record of a task whose environment is nobody's business.
func withoutEnv(r *task.CreateMessage) ([]byte, error) {
	record, spec, process := *r, *r.Spec, *r.Spec.Process
	process.Env = nil
	spec.Process, record.Spec = &process, &spec
	if spec.Linux != nil {
		linux := *spec.Linux
		linux.Seccomp, spec.Linux = nil, &linux
	}
	return json.Marshal(record)
}

// configure takes over from the request what matters later.
func (p *process) configure(r *task.CreateMessage) {
	p.closesInput = r.StdinOnce
	if l := r.Spec.Linux; l != nil && l.Resources != nil && l.Resources.Memory != nil && l.Resources.Memory.Limit != nil {
		p.memory = true
	}
}

// spawn makes pipes, or none for a terminal, and a process on them.
func (k *keeper) spawn(c *container, execID string, spec *specs.Process, stdin bool, run func(runtime.Stdio) (*runtime.Process, error)) (*process, error) {
	var io runtime.Stdio
	ours := noStreams
	if !spec.Terminal {
		var err error
		if io, ours, err = openPipes(stdin); err != nil {
			return nil, err
		}
		defer closeAll(io.Stdin, io.Stdout, io.Stderr)
	}
	k.making.RLock()
	rt, err := run(io)
	if err != nil {
		k.making.RUnlock()
		k.sweepIfWanted()
		ours.close()
		return nil, err
	}
	p := newProcess(c, execID, rt, ours, stdin)
	p.child = true
	k.mu.Lock()
	k.children[p.pid] = p
	k.mu.Unlock()
	k.making.RUnlock()
	k.sweepIfWanted()
	return p, nil
}

func (k *keeper) recordPID(p *process, started bool) {
	start, err := startTime(p.pid)
	if err != nil {
		return // it has ended: the exit record tells all
	}
	if err := k.records.writePID(p.c.id, pidRecord{PID: p.pid, Start: start, Cgroup: p.rt.CgroupPath, Started: started}); err != nil {
		slog.Warn("keeper: pid record", "container", p.c.id, "error", err)
	}
}

func short(id string) string { return id[:min(12, len(id))] }

// removalPatience bounds how long a killed process may take to end.
const removalPatience = 10 * time.Second
