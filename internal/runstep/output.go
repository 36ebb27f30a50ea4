package runstep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/task"
)

// output reads what the process writes, from the keeper.
type output struct {
	near *os.File
	done chan struct{}
	tail tail
}

// attach connects to the output before there is a process, so that nothing of it is missed.
func (s *step) attach(ctx context.Context) (*output, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket for the output of a build step: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // With that, a deadline can be set.
		return nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	near, far := os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "output")
	err = s.connect(ctx)
	if err == nil {
		err = s.r.tasks.Attach(ctx, task.AttachRequest{ID: s.id, Stdout: s.Stdio == nil, Stderr: s.Stdio != nil}, far)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach to build step: %w", err), near.Close(), far.Close())
	}
	o := &output{near: near, done: make(chan struct{})}
	go o.read(s.Output)
	return o, nil
}

// connect hands the command's standard input and output to whoever asked for them.
func (s *step) connect(ctx context.Context) error {
	if s.Stdio == nil {
		return nil
	}
	err := s.r.tasks.Attach(ctx, task.AttachRequest{ID: s.id, Stdin: true, Stdout: true}, s.Stdio)
	s.handed = err == nil
	return err
}

// read copies until the keeper has no more. What cannot be written is lost, but still read: the process must not wait.
func (o *output) read(to io.Writer) {
	defer close(o.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := o.near.Read(buf)
		o.tail.write(buf[:n])
		if n > 0 && to != nil {
			if _, err := to.Write(buf[:n]); err != nil {
				to = nil
			}
		}
		if err != nil {
			return
		}
	}
}

// lastWords is how long the rest of the output may take when the keeper died over it.
const lastWords = 30 * time.Second

// finish waits for the rest of the output of a process that has ended.
func (o *output) finish() {
	timer := time.AfterFunc(lastWords, func() { _ = o.near.SetReadDeadline(time.Unix(1, 0)) })
	defer timer.Stop()
	<-o.done
}

// close ends it without waiting for more.
func (o *output) close() error {
	_ = o.near.SetReadDeadline(time.Unix(1, 0))
	<-o.done
	return o.near.Close()
}

// tailSize is how much of the end of the output is kept for an error.
const tailSize = 8 << 10

// tail keeps the end of what is written.
type tail struct{ buf []byte }

func (t *tail) write(p []byte) {
	if len(p) >= tailSize {
		t.buf = append(t.buf[:0], p[len(p)-tailSize:]...)
		return
	}
	if over := len(t.buf) + len(p) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.buf = append(t.buf, p...)
}

func (t *tail) String() string { return string(t.buf) }
