package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/task"
)

// healthOutput is how much of a check's output is kept.
const healthOutput = 4096

// checkCommand is the command of a health check.
func checkCommand(c *docker.Config) []string {
	test := c.Healthcheck.Test
	if test[0] == "CMD" {
		return test[1:]
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(append([]string{}, shell...), test[1:]...)
}

// runCheck runs one health check in the container.
func (e *Engine) runCheck(ctx context.Context, c *container, p *probe) *docker.HealthcheckResult {
	d, _ := c.look()
	r := &docker.HealthcheckResult{Start: time.Now()}
	code, output, err := e.capture(ctx, c, checkCommand(d.Config), p.config.Timeout)
	r.End, r.ExitCode, r.Output = time.Now(), code, output
	if err != nil {
		r.ExitCode, r.Output = -1, err.Error()
	}
	return r
}

// capture runs a command in the container and returns its exit code and the beginning of its output.
func (e *Engine) capture(ctx context.Context, c *container, command []string, limit time.Duration) (int, string, error) {
	if len(command) == 0 {
		return 0, "", invalid("the health check has no command")
	}
	x := &execution{id: newID(), c: c, quiet: true, request: docker.ExecCreateRequest{
		Cmd: command, AttachStdout: true, AttachStderr: true,
	}}
	e.execs.add(x)
	defer e.execs.remove(x)
	x.begin()
	read, write, err := streamPair()
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = read.Close() }()
	err = e.tasks.Attach(ctx, task.AttachRequest{ID: c.id, ExecID: x.id, Stdout: true, Stderr: true}, write)
	_ = write.Close() // The keeper has its own descriptor.
	if err != nil {
		return 0, "", err
	}
	if err := e.runExec(ctx, x, e.execProcess(x.c, x.request)); err != nil {
		e.execs.end(x, exitCodeOf(err))
		return 0, "", errors.Join(err, e.tasks.DeleteExec(ctx, c.id, x.id))
	}
	output := make(chan string, 1)
	go func() { output <- readSome(read) }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-x.done:
	case <-ctx.Done():
		return 0, "", ctx.Err()
	case <-t.C:
		_ = e.tasks.Kill(ctx, c.id, x.id, syscall.SIGKILL)                    // If it has just ended, all the better.
		return 0, "", fmt.Errorf("Health check exceeded timeout (%v)", limit) //nolint:staticcheck // docker's words
	}
	// A background process may hold the pipe open for ever.
	_ = read.SetReadDeadline(time.Now().Add(time.Second))
	return x.code, <-output, nil
}

// streamPair is a connection within this process: what is written to one end is read from the other, with deadlines.
func streamPair() (read, write *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "input"), nil
}

// readSome reads the beginning of r, and the rest so that the writer does not block.
func readSome(r io.Reader) string {
	head, _ := io.ReadAll(io.LimitReader(r, healthOutput)) // What could be read is what is told.
	_, _ = io.Copy(io.Discard, r)
	return string(head)
}
