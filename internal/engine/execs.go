package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// execs are the further processes of all containers. They live in memory only: their clients do not outlive a daemon.
type execs struct {
	mu    sync.Mutex // guards what follows
	byID  map[string]*execution
	open  map[string]*execution // those that have not ended, by id
	ended []*execution          // in the order in which they did
}

// An exec that has ended can be inspected for a while, if not too many have ended since.
const (
	execKept  = 5 * time.Minute
	execsKept = 1024
)

func newExecs() *execs {
	return &execs{byID: map[string]*execution{}, open: map[string]*execution{}}
}

// add enters an exec, and forgets those that ended long ago.
func (r *execs) add(x *execution) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.ended) > 0 && (len(r.ended) > execsKept || now.Sub(r.ended[0].endAt) > execKept) {
		delete(r.byID, r.ended[0].id)
		r.ended[0] = nil
		r.ended = r.ended[1:]
	}
	r.byID[x.id], r.open[x.id] = x, x
}

// end notes the end of an exec.
func (r *execs) end(x *execution, code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x.end(code)
	if r.open[x.id] != x {
		return
	}
	delete(r.open, x.id)
	if !x.quiet { // Nobody knows those by their ids.
		r.ended = append(r.ended, x)
	}
}

func (r *execs) remove(x *execution) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, x.id)
	delete(r.open, x.id)
}

func (r *execs) get(id string) *execution {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

// find is get by id or unique prefix, with docker's error.
func (r *execs) find(id string) (*execution, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.byID[id]; x != nil {
		return x, nil
	}
	var found *execution
	for full, x := range r.byID {
		if id != "" && strings.HasPrefix(full, id) {
			if found != nil {
				found = nil
				break
			}
			found = x
		}
	}
	if found == nil {
		return nil, fmt.Errorf("No such exec instance: %s: %w", id, errdefs.ErrNotFound) //nolint:staticcheck // docker's words
	}
	return found, nil
}

// of lists the execs of a container that have not ended; nil for none, as docker shows it.
func (r *execs) of(container string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id, x := range r.open {
		if x.c.id == container && !x.quiet {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// drop ends the execs of a container whose run is over: those that never began can never begin.
func (r *execs) drop(container string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, x := range r.open {
		if x.c.id == container && !x.begun() {
			delete(r.byID, id)
			delete(r.open, id)
		}
	}
}

// execution is one exec.
type execution struct {
	id      string
	c       *container
	request docker.ExecCreateRequest
	quiet   bool // a health check: not shown, no events

	mu    sync.Mutex // guards what follows
	stage execStage
	pid   int
	code  int
	endAt time.Time
	// Made by begin: live is closed when the process is there or never will be, done when it has ended.
	live, done chan struct{}
}

type execStage uint8

// ready ──► starting ──► active ──► finished
const (
	ready execStage = iota
	starting
	active
	finished
)

// begin says whether the caller is the one to start it.
func (x *execution) begin() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stage != ready {
		return false
	}
	x.stage, x.live, x.done = starting, make(chan struct{}), make(chan struct{})
	return true
}

// started notes the process. Its end may have been noted already.
func (x *execution) started(pid int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pid = pid
	if x.stage == starting {
		x.stage = active
		close(x.live)
	}
}

func (x *execution) end(code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stage == finished || x.done == nil {
		return
	}
	if x.stage == starting {
		close(x.live)
	}
	x.stage, x.code, x.endAt = finished, code, time.Now()
	close(x.done)
}

func (x *execution) begun() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stage != ready
}

func (x *execution) running() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stage == active
}

// settle waits a moment for a process that is being started, and for the word about the end of one that is gone: a
// client that has read the last output asks for the exit code at once.
func (x *execution) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	x.mu.Lock()
	live, done, stage := x.live, x.done, x.stage
	x.mu.Unlock()
	if stage == starting {
		select {
		case <-live:
		case <-ctx.Done():
		}
	}
	x.mu.Lock()
	pid, stage := x.pid, x.stage
	x.mu.Unlock()
	if stage != active || !vanished(pid) {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// wait returns the exit code when there is one.
func (x *execution) wait(ctx context.Context) (int, error) {
	x.mu.Lock()
	done := x.done
	x.mu.Unlock()
	if done == nil {
		return 0, fmt.Errorf("exec command %s has not been started: %w", x.id, errdefs.ErrFailedPrecondition)
	}
	select {
	case <-done:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.code, nil
}

// vanished says that the process has ended, reaped or not.
func vanished(pid int) bool {
	raw, err := readProc(pid, "stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(raw, ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X") || unix.Kill(pid, 0) != nil
}

func (x *execution) inspect() *docker.ExecInspectResponse {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.request
	privileged := r.Privileged
	i := &docker.ExecInspectResponse{
		ID: x.id, Running: x.stage == active || x.stage == starting, OpenStdin: r.AttachStdin, OpenStdout: r.AttachStdout,
		OpenStderr: r.AttachStderr, ContainerID: x.c.id, Pid: x.pid, CanRemove: x.stage == finished,
		DetachKeys: []byte(r.DetachKeys),
		ProcessConfig: &docker.ExecProcessConfig{
			Tty: r.Tty, Entrypoint: r.Cmd[0], Arguments: r.Cmd[1:], Privileged: &privileged, User: r.User,
		},
	}
	if x.stage == finished {
		code := x.code
		i.ExitCode = &code
	}
	return i
}
