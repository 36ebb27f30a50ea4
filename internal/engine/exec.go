package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/task"
)

// ExecStartOptions for ExecStart.
type ExecStartOptions struct {
	Detach      bool
	TTY         bool
	ConsoleSize *[2]uint // rows, columns
	Hijack      func(tty bool) (Stream, error)
	// Say is how a failure is told where the output would have gone; nil for docker's way, one line.
	Say func(error) string
}

// ExecCreate remembers a further process for a running container; ExecStart runs it.
func (e *Engine) ExecCreate(_ context.Context, name string, r docker.ExecCreateRequest) (string, error) {
	c, err := e.index.find(name)
	if err != nil {
		return "", err
	}
	if len(r.Cmd) == 0 {
		return "", invalid("No exec command specified")
	}
	if _, err := detachKeys(r.DetachKeys); err != nil {
		return "", err
	}
	if err := canExec(c); err != nil {
		return "", err
	}
	x := &execution{id: newID(), c: c, request: r}
	e.execs.add(x)
	e.emit(c, events.Action(string(events.ActionExecCreate)+": "+strings.Join(r.Cmd, " ")), map[string]string{"execID": x.id})
	return x.id, nil
}

func canExec(c *container) error {
	_, st := c.look()
	switch st.Phase {
	case running:
		return nil
	case paused:
		d, _ := c.look()
		return &fault.Error{
			Code: "container-paused", What: "container " + d.Name + " is paused", Words: "container " + c.id + " is paused, unpause the container before exec",
			Try: "kist unpause " + d.Name, Class: errdefs.ErrConflict,
		}
	case restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running: %w", c.id, errdefs.ErrConflict)
	}
	return notRunning(c)
}

// ExecStart runs the process. Once the connection has been taken over, a failure to start is told on it, as docker does.
func (e *Engine) ExecStart(ctx context.Context, id string, o ExecStartOptions) error {
	x, err := e.execs.find(id)
	if err != nil {
		return err
	}
	if err := canExec(x.c); err != nil {
		return err
	}
	if !x.begin() {
		return fmt.Errorf("exec command %s is already running: %w", id, errdefs.ErrConflict)
	}
	ctx = context.WithoutCancel(ctx)
	r := x.request
	if o.ConsoleSize != nil {
		r.ConsoleSize = o.ConsoleSize
	}
	// Worked out while the keeper takes the stream.
	process := e.execProcess(x.c, r)
	defer func() { _, _ = process() }()
	var stream *os.File
	if !o.Detach {
		s, err := o.Hijack(r.Tty)
		if err != nil {
			e.execs.end(x, 128)
			return err
		}
		// Attach gives s.File away; a failure is told on a descriptor of our own.
		if stream, err = duplicate(s.File); err != nil {
			e.execs.end(x, 128)
			return errors.Join(err, s.File.Close())
		}
		defer func() { _ = stream.Close() }()
		if err := e.attachExec(ctx, x, s); err != nil {
			e.execs.end(x, 128)
			tellFailure(stream, o.words(err), r.Tty)
			return errors.Join(err, s.File.Close())
		}
	}
	// Before it starts, as docker does: it may have ended when that returns.
	e.emit(x.c, events.Action(string(events.ActionExecStart)+": "+strings.Join(r.Cmd, " ")), map[string]string{"execID": x.id})
	err = e.runExec(ctx, x, process)
	if err == nil {
		return nil
	}
	e.execs.end(x, execCodeOf(err))
	if stream != nil {
		tellFailure(stream, o.words(err), r.Tty)
	}
	// Attachments that wait for the process are let go.
	if derr := e.tasks.DeleteExec(ctx, x.c.id, x.id); derr != nil {
		err = errors.Join(err, derr)
		if stream != nil { // There is no keeper to end the stream.
			endStream(stream)
		}
	}
	return err
}

// endStream ends a connection for all who have a descriptor of it.
func endStream(stream *os.File) {
	raw, err := stream.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }) // the client may have gone
	}
}

// execCodeOf is docker's: 126 also for what fails before the program is looked for.
func execCodeOf(err error) int {
	if code := exitCodeOf(err); code != 128 {
		return code
	}
	return 126
}

func (e *Engine) attachExec(ctx context.Context, x *execution, s Stream) error {
	r := x.request
	a := task.AttachRequest{
		ID: x.c.id, ExecID: x.id, Stdin: r.AttachStdin, Stdout: r.AttachStdout, Stderr: r.AttachStderr,
		Multiplex: !r.Tty, Pending: s.Pending,
	}
	if r.AttachStdin {
		a.DetachKeys, _ = detachKeys(r.DetachKeys) // Checked by ExecCreate.
	}
	return e.tasks.Attach(ctx, a, s.File)
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate the connection: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// words tells a failure.
func (o *ExecStartOptions) words(err error) string {
	if o.Say == nil {
		return err.Error() + "\r\n"
	}
	return o.Say(err)
}

// tellFailure writes a text where the output would have gone.
func tellFailure(stream *os.File, text string, tty bool) {
	if tty {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	} else {
		text = string(frameHeader("stderr", len(text))) + text
	}
	_, _ = stream.WriteString(text) // A client that is gone is told nothing.
}

// runExec starts the process in the container.
func (e *Engine) runExec(ctx context.Context, x *execution, process func() (*specs.Process, error)) error {
	d, _ := x.c.look()
	p, err := process()
	if err != nil {
		return err
	}
	pid, err := e.tasks.Exec(ctx, task.ExecRequest{
		ID: d.ID, ExecID: x.id, Process: p, Privileged: x.request.Privileged, Stdin: x.request.AttachStdin,
	})
	if err != nil {
		return e.explain(d, execFailed, err)
	}
	x.started(pid)
	return nil
}

// execProcess begins to derive the process, and returns what waits for it.
func (e *Engine) execProcess(c *container, r docker.ExecCreateRequest) func() (*specs.Process, error) {
	d, _ := c.look()
	process := sync.OnceValues(func() (*specs.Process, error) { return e.deriveProcess(d, r) })
	go func() { _, _ = process() }()
	return process
}

// deriveProcess makes an exec's process from the container's own specification, which is made again: keeping one for each
// container would cost more than it.
func (e *Engine) deriveProcess(d *definition, r docker.ExecCreateRequest) (*specs.Process, error) {
	own, err := e.user(d, d.Config.User)
	if err != nil {
		return nil, err
	}
	s, _, err := spec.Build(spec.Input{
		ID: d.ID, Name: d.Name, Config: d.Config, HostConfig: alone(d.HostConfig), User: own,
		CgroupParent: e.cfg.CgroupParent, InitPath: e.cfg.InitPath, Host: e.host,
	})
	if err != nil {
		return nil, err
	}
	u := own
	if r.User != "" {
		if u, err = e.user(d, r.User); err != nil {
			return nil, err
		}
	}
	return spec.ExecProcess(s, d.Config, r, u, e.host)
}

// alone leaves out what the specification needs other containers and devices for: an exec's process does not depend on it.
func alone(h *docker.HostConfig) *docker.HostConfig {
	if !h.NetworkMode.IsContainer() && !h.PidMode.IsContainer() && !h.IpcMode.IsContainer() && len(h.Devices) == 0 {
		return h
	}
	c := *h
	c.NetworkMode, c.PidMode, c.IpcMode, c.Devices = "none", "", docker.IPCModePrivate, nil
	return &c
}

// execEnded notes the end of an exec, and has the keeper forget it.
func (e *Engine) execEnded(ctx context.Context, end task.Exit) error {
	if x := e.execs.get(end.ExecID); x != nil {
		e.execs.end(x, end.Code)
		if !x.quiet {
			e.emit(x.c, events.ActionExecDie, map[string]string{"execID": x.id, "exitCode": strconv.Itoa(end.Code)})
		}
	}
	return e.tasks.DeleteExec(ctx, end.ID, end.ExecID)
}

// ExecResize sets the size of the exec's terminal.
func (e *Engine) ExecResize(ctx context.Context, id string, rows, cols uint16) error {
	x, err := e.execs.find(id)
	if err != nil {
		return err
	}
	x.settle(ctx) // Clients resize as soon as they are attached.
	if !x.running() {
		return fmt.Errorf("exec command %s is not running: %w", id, errdefs.ErrConflict)
	}
	return unlessNoTerminal(e.tasks.Resize(ctx, x.c.id, id, rows, cols))
}

// ExecInspect tells the state of an exec.
func (e *Engine) ExecInspect(ctx context.Context, id string) (*docker.ExecInspectResponse, error) {
	x, err := e.execs.find(id)
	if err != nil {
		return nil, err
	}
	x.settle(ctx)
	return x.inspect(), nil
}

// ExecWait returns the exit code of an exec that has been started, when it has ended.
func (e *Engine) ExecWait(ctx context.Context, id string) (int, error) {
	x, err := e.execs.find(id)
	if err != nil {
		return 0, err
	}
	return x.wait(ctx)
}
