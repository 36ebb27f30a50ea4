package desk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/front"
)

// world is an engine of which every call is told, and that fails where it is told to.
type world struct {
	fail  map[string]error
	made  docker.CreateResponse
	code  int
	calls chan string
	end   chan struct{} // the container has ended
	sent  chan string   // signals
}

func newWorld() *world {
	return &world{
		fail: map[string]error{}, made: docker.CreateResponse{ID: "abc"}, calls: make(chan string, 100), end: make(chan struct{}), sent: make(chan string, 10),
	}
}

func (w *world) call(what string, args ...string) error {
	w.calls <- strings.Join(append([]string{what}, args...), " ")
	return w.fail[what]
}

func (w *world) Create(_ context.Context, name string, _ *ocispec.Platform, r docker.CreateRequest) (docker.CreateResponse, error) {
	return w.made, w.call("create", name, r.Image, strings.Join(r.Cmd, " "))
}

func (w *world) Start(_ context.Context, id string) error { return w.call("start", id) }

// write writes output to the stream as the keeper would, and closes it.
func write(h func(bool) (engine.Stream, error), text string) error {
	s, err := h(false)
	if err != nil {
		return err
	}
	head := make([]byte, 8)
	head[0] = 1
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	_, err = s.File.Write(append(head, text...))
	return errors.Join(err, s.File.Close())
}

func (w *world) StartAttached(_ context.Context, id string, o engine.AttachOptions) error {
	if err := w.call("start attached", id); err != nil {
		return err
	}
	return write(o.Hijack, "output")
}

func (w *world) Wait(ctx context.Context, id string, c docker.WaitCondition) (<-chan docker.WaitResponse, error) {
	ch := make(chan docker.WaitResponse, 1)
	go func() {
		defer close(ch)
		select {
		case <-w.end:
			ch <- docker.WaitResponse{StatusCode: int64(w.code)}
		case <-ctx.Done():
		}
	}()
	return ch, w.call("wait", id, string(c))
}

func (w *world) Kill(_ context.Context, id, signal string) error {
	w.sent <- signal
	return nil
}

func (w *world) Ending(string) *engine.Ending {
	return &engine.Ending{Reason: engine.EndOutOfMemory, Text: "no memory"}
}

func (w *world) ExecCreate(_ context.Context, name string, r docker.ExecCreateRequest) (string, error) {
	return "x1", w.call("exec create", name, strings.Join(r.Cmd, " "), strings.Join(r.Env, " "))
}

func (w *world) ExecStart(_ context.Context, id string, o engine.ExecStartOptions) error {
	err := w.call("exec start", id)
	if o.Detach {
		return err
	}
	return errors.Join(err, write(o.Hijack, "output"))
}

func (w *world) ExecWait(ctx context.Context, id string) (int, error) {
	select {
	case <-w.end:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return w.code, w.call("exec wait", id)
}

// serve serves a world where front.Begin looks.
func serve(t *testing.T, w *world) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "desk") // t.TempDir's are longer than a socket's address may be.
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"KIST_EXEC_ROOT": dir, "KIST_HOST": "", "DOCKER_HOST": "", "DOCKER_API_VERSION": "", "DOCKER_CONFIG": dir,
	} {
		t.Setenv(name, value)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, front.Socket), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	s := New(w, func() {})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
		goleak.VerifyNone(t)
	})
	return s
}

// swallow sends what commands write to nowhere but the returned function.
func swallow(t *testing.T) func() string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	var old [3]int
	for fd := 1; fd <= 2; fd++ {
		if old[fd], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			t.Fatal(err)
		}
		if err := unix.Dup2(int(f.Fd()), fd); err != nil {
			t.Fatal(err)
		}
	}
	return func() string {
		for fd := 1; fd <= 2; fd++ {
			_ = unix.Dup2(old[fd], fd)
			_ = unix.Close(old[fd])
		}
		f.Close()
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func TestCommands(t *testing.T) {
	missing := &fault.Error{Code: "exec-not-found", What: "cannot start", Cause: "it is not there", Try: "ls", Class: errdefs.ErrInvalidArgument}
	for _, tc := range []struct {
		args   string
		fail   map[string]error
		made   docker.CreateResponse
		code   int
		result front.Result
		want   int // exit code
		out    string
		calls  string
	}{
		{args: "run --rm box true", code: 3, want: 3, out: "output", calls: "create  box true, wait abc removed, start attached abc"},
		{args: "run --rm box big", code: 137, want: 137, out: "outputended: no memory\n", calls: "create  box big, wait abc removed, start attached abc"},
		{args: "run --name n box", out: "output", calls: "create n box , wait abc next-exit, start attached abc"},
		{args: "run -d box sleep 1", out: "abc\n", calls: "create  box sleep 1, start abc"},
		{
			args: "run box", made: docker.CreateResponse{ID: "abc", Warnings: []string{"careful"}}, out: "warning: careful\noutput",
			calls: "create  box , wait abc next-exit, start attached abc",
		},
		{args: "run box", fail: map[string]error{"create": fmt.Errorf("image: %w", errdefs.ErrNotFound)}, result: front.Declined, calls: "create  box "},
		{args: "run -it box", result: front.Declined},
		{args: "run --env-file f box", result: front.Declined},
		{args: "run --no-such-flag box", result: front.Declined},
		{args: "run", result: front.Declined},
		{args: "run --help", result: front.Declined},
		{
			args: "run --rm box x", fail: map[string]error{"start attached": missing}, want: 127, out: "error: cannot start [exec-not-found]\ncause: it is not there\ntry:   ls\n",
			calls: "create  box x, wait abc removed, start attached abc",
		},
		{args: "run -d box x", fail: map[string]error{"start": missing}, want: 127, out: "abc\nerror: cannot start [exec-not-found]\ncause: it is not there\ntry:   ls\n", calls: "create  box x, start abc"},
		{args: "run -d --rm box x", fail: map[string]error{"start": missing}, want: 127, out: "error: cannot start [exec-not-found]\ncause: it is not there\ntry:   ls\n", calls: "create  box x, start abc"},
		{args: "exec -e A=b box true", code: 4, want: 4, out: "output", calls: "exec create box true A=b, exec start x1, exec wait x1"},
		{args: "exec -d box true", calls: "exec create box true , exec start x1"},
		{args: "exec -d box x", fail: map[string]error{"exec start": missing}, want: 127, out: "error: cannot start [exec-not-found]\ncause: it is not there\ntry:   ls\n", calls: "exec create box x , exec start x1"},
		{args: "exec box x", fail: map[string]error{"exec start": missing}, code: 127, want: 127, out: "output", calls: "exec create box x , exec start x1, exec wait x1"},
		{args: "exec nobox true", fail: map[string]error{"exec create": errdefs.ErrNotFound}, result: front.Declined, calls: "exec create nobox true "},
		{args: "exec -i box true", result: front.Declined},
		{args: "exec -e A box true", result: front.Declined},
	} {
		t.Run(tc.args, func(t *testing.T) {
			w := newWorld()
			w.code = tc.code
			if tc.fail != nil {
				w.fail = tc.fail
			}
			if tc.made.ID != "" {
				w.made = tc.made
			}
			close(w.end)
			serve(t, w)
			read := swallow(t)
			c := front.Begin(strings.Fields(tc.args))
			if tc.args == "run" { // which front keeps to itself
				_ = read()
				if c != nil {
					t.Error("begun")
				}
				return
			}
			if c == nil {
				_ = read()
				t.Fatal("not begun")
			}
			result := c.Finish(time.Minute)
			out := read()
			close(w.calls)
			var calls []string
			for s := range w.calls {
				calls = append(calls, s)
			}
			if result != tc.result || c.Code() != tc.want || out != tc.out || strings.Join(calls, ", ") != tc.calls {
				t.Errorf("result %d, code %d, output %q, calls %q", result, c.Code(), out, calls)
			}
		})
	}
}

func TestSignalsAndClose(t *testing.T) {
	w := newWorld()
	s := serve(t, w)
	read := swallow(t)
	c := front.Begin([]string{"run", "--rm", "box"})
	if r := c.Finish(50 * time.Millisecond); r != front.Pending || c.ID != "abc" || !c.Removed {
		_ = read()
		t.Fatalf("result %d, %+v", r, c)
	}
	c.Signal(15)
	if got := <-w.sent; got != "15" {
		t.Errorf("signal %q", got)
	}
	s.Close()
	if r := c.Finish(time.Minute); r != front.Lost {
		t.Errorf("result %d", r)
	}
	_ = read()
}

// TestForeignBytes sends what no client would.
func TestForeignBytes(t *testing.T) {
	w := newWorld()
	serve(t, w)
	for name, tc := range map[string]struct {
		packet string
		fds    int
		answer string
	}{
		"nothing":         {"", 1, ""},
		"noise":           {"\xff\xfe\x00\x01", 1, ""},
		"no descriptor":   {"1\x00p\x00run\x00box\x00", 0, ""},
		"two descriptors": {"1\x00p\x00run\x00box\x00", 2, ""},
		"too many":        {"1\x00p\x00run\x00box\x00", 40, ""},
		"too long":        {"1\x00p\x00run\x00" + strings.Repeat("x", front.MaxPacket) + "\x00", 1, ""},
		"no command":      {"1\x00p\x00", 1, ""},
		"no end":          {"1\x00p\x00run\x00box", 1, ""},
		"later version":   {"2\x00p\x00run\x00box\x00", 1, "d"},
		"another command": {"1\x00p\x00rm\x00box\x00", 1, "d"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(os.Getenv("KIST_EXEC_ROOT"), front.Socket), Net: "unixpacket"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			r, pipe, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			var fds []int
			for range tc.fds {
				fds = append(fds, int(pipe.Fd()))
			}
			if _, _, err := conn.WriteMsgUnix([]byte(tc.packet), unix.UnixRights(fds...), nil); err != nil {
				t.Fatal(err)
			}
			pipe.Close()
			b := make([]byte, 100)
			n, _ := conn.Read(b)
			if string(b[:n]) != tc.answer {
				t.Errorf("answer %q", b[:n])
			}
			// Every copy of the descriptor is closed.
			if n, err := r.Read(b); n != 0 || err == nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	if len(w.calls) != 0 {
		t.Errorf("%d calls", len(w.calls))
	}
}
