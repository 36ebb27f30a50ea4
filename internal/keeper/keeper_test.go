package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
)

// TestMain makes the test's binary a keeper when it is started as one.
func TestMain(m *testing.M) {
	runtime.MaybeChild()
	if dir := os.Getenv(victimEnv); dir != "" {
		victim(dir)
	}
	if dir := os.Getenv(task.DirEnv); dir != "" {
		if os.Getenv("KIST_TEST_RUNNER") == "real" {
			os.Exit(Main(dir))
		}
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
		if err := run(context.Background(), dir, &fakeRunner{}, lingerEmpty); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rig is a client with a keeper process of its own.
type rig struct {
	*testing.T
	dir    string
	client *task.Client
	n      int

	mu    sync.Mutex
	exits map[string]*task.Exit
	other []task.Event
	seen  chan struct{}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, dir: t.TempDir(), exits: map[string]*task.Exit{}, seen: make(chan struct{}, 1000)}
	r.open()
	t.Cleanup(r.end)
	return r
}

func (r *rig) open() {
	r.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	c, err := task.Open(r.ctx(), task.Config{Dir: filepath.Join(r.dir, "keeper"), Command: []string{exe}})
	if err != nil {
		r.Fatal(err)
	}
	r.client = c
	go func() {
		for e := range c.Events() {
			r.mu.Lock()
			if e.Kind == task.EventExit {
				r.exits[e.ID+"/"+e.ExecID] = e.Exit
			} else {
				r.other = append(r.other, e)
			}
			r.mu.Unlock()
			r.seen <- struct{}{}
		}
	}()
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	r.Cleanup(cancel)
	return ctx
}

// end deletes everything and ends the keeper.
func (r *rig) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tasks, err := r.client.List(ctx)
	if err != nil {
		r.Error(err)
	}
	for _, s := range tasks {
		if err := r.client.Delete(ctx, s.ID); err != nil {
			r.Error(err)
		}
	}
	pid := r.keeperPID()
	r.client.Close()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for range 100 { // it ends by SIGTERM only when it holds nothing, and cgroups are removed in the background
		_ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50); n > 0 {
			_ = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED, nil)
			return
		}
	}
	log, _ := os.ReadFile(filepath.Join(r.dir, "keeper", task.LogName))
	r.Errorf("the keeper does not end; its log:\n%s", log)
}

func (r *rig) keeperPID() int {
	r.Helper()
	pid := r.tryKeeperPID()
	if pid == 0 {
		r.Fatal("no keeper answers")
	}
	return pid
}

func (r *rig) killKeeper() {
	r.Helper()
	pid := r.keeperPID()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		r.Fatal(err)
	}
	for range 5000 {
		if now := r.tryKeeperPID(); now != pid && now != 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	r.Fatal("no new keeper")
}

// tryKeeperPID asks the keeper that is running.
func (r *rig) tryKeeperPID() int {
	conn, err := task.Dial(filepath.Join(r.dir, "keeper", task.SocketName))
	if err != nil {
		return 0
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if conn.Send(task.KindHello, 0, task.Hello{Version: 1}) != nil {
		return 0
	}
	m, err := conn.Receive()
	if err != nil {
		return 0
	}
	var h task.Hello
	_ = m.Decode(&h)
	return h.PID
}

func (r *rig) id() string {
	r.n++
	return fmt.Sprintf("%064x", r.n)
}

func (r *rig) log(id string) logfile.Config {
	return logfile.Config{Driver: "json-file", Path: filepath.Join(r.dir, id+".log")}
}

func (r *rig) request(args ...string) task.CreateRequest {
	id := r.id()
	return task.CreateRequest{
		ID: id, Log: r.log(id),
		Spec: &specs.Spec{Process: &specs.Process{Args: args, Cwd: "/"}, Root: &specs.Root{Path: "/"}, Linux: &specs.Linux{
			Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActAllow},
		}},
	}
}

func (r *rig) run(args ...string) string {
	r.Helper()
	q := r.request(args...)
	r.start(q)
	return q.ID
}

func (r *rig) start(q task.CreateRequest) int {
	r.Helper()
	pid, warnings, err := r.client.Run(r.ctx(), q)
	if err != nil {
		r.Fatal(err)
	}
	if pid <= 0 || len(warnings) != 1 {
		r.Fatalf("pid %d, warnings %q", pid, warnings)
	}
	return pid
}

// exit waits for the exit event.
func (r *rig) exit(id, execID string) *task.Exit {
	r.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		x := r.exits[id+"/"+execID]
		r.mu.Unlock()
		if x != nil {
			return x
		}
		select {
		case <-r.seen:
		case <-deadline:
			log, _ := os.ReadFile(filepath.Join(r.dir, "keeper", task.LogName))
			r.Fatalf("no exit of %.12s %s; the keeper's log:\n%s", id, execID, log)
		}
	}
}

// logged is what the log holds, with the streams' names where they change.
func (r *rig) logged(id string) string {
	r.Helper()
	var b strings.Builder
	err := logfile.Read(r.ctx(), r.log(id), logfile.ReadOptions{Stdout: true, Stderr: true, Tail: -1}, func(rec logfile.Record) error {
		b.WriteString(rec.Stream + ":" + string(rec.Line))
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	return b.String()
}

// attach returns the client's end of a new attachment.
func (r *rig) attach(q task.AttachRequest) *net.UnixConn {
	r.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.Fatal(err)
	}
	if err := r.client.Attach(r.ctx(), q, os.NewFile(uintptr(fds[0]), "theirs")); err != nil {
		r.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "ours")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.UnixConn)
}

func TestExitCodes(t *testing.T) {
	r := newRig(t)
	tests := []struct {
		script       string
		code, signal int
	}{
		{"exit 0", 0, 0},
		{"exit 7", 7, 0},
		{"kill -9 $$", 137, 9},
		{"kill -15 $$", 143, 15},
	}
	for _, c := range tests {
		id := r.run("sh", "-c", c.script)
		x := r.exit(id, "")
		if x.Code != c.code || x.Signal != c.signal || x.Unknown || x.PID <= 0 || x.At.IsZero() {
			t.Errorf("%s: %+v", c.script, x)
		}
		if err := r.client.Kill(r.ctx(), id, "", syscall.SIGTERM); !errdefs.IsNotFound(err) {
			t.Errorf("kill after exit: %v", err)
		}
	}
}

func TestLogAndOrder(t *testing.T) {
	r := newRig(t)
	id := r.run("sh", "-c", "echo one; sleep 0.05; echo two >&2; sleep 0.05; printf three")
	r.exit(id, "")
	if got, want := r.logged(id), "stdout:one\nstderr:two\nstdout:three"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
}

func TestCreateThenStart(t *testing.T) {
	r := newRig(t)
	q := r.request("sh", "-c", "echo started")
	if _, _, err := r.client.Create(r.ctx(), q); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.client.Create(r.ctx(), q); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
	tasks, err := r.client.List(r.ctx())
	if err != nil || len(tasks) != 1 || tasks[0].State != task.Created {
		t.Fatalf("list %+v, %v", tasks, err)
	}
	if err := r.client.Start(r.ctx(), q.ID); err != nil {
		t.Fatal(err)
	}
	r.exit(q.ID, "")
	if err := r.client.Start(r.ctx(), q.ID); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("second start: %v", err)
	}
	if err := r.client.Delete(r.ctx(), q.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Delete(r.ctx(), q.ID); err != nil {
		t.Errorf("second delete: %v", err)
	}
	if id := r.run("true"); id != q.ID {
		r.exit(id, "")
	}
	r.start(q) // the same id again
	r.exit(q.ID, "")
}

func TestFailures(t *testing.T) {
	r := newRig(t)
	refused := r.request("true")
	refused.Spec.Hostname = "refuse"
	if _, _, err := r.client.Run(r.ctx(), refused); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("refused create: %v", err)
	}
	missing := r.request("/no/such/program")
	for _, start := range []bool{true, false} {
		var err error
		if start {
			_, _, err = r.client.Run(r.ctx(), missing)
		} else {
			if _, _, err = r.client.Create(r.ctx(), missing); err != nil {
				t.Fatal(err)
			}
			err = r.client.Start(r.ctx(), missing.ID)
		}
		var e *task.ExecError
		if !errors.As(err, &e) || e.Errno != syscall.ENOENT || e.Path != "/no/such/program" {
			t.Errorf("missing program: %v", err)
		}
	}
	if tasks, err := r.client.List(r.ctx()); err != nil || len(tasks) != 0 {
		t.Errorf("left: %+v, %v", tasks, err)
	}
	if err := r.client.Start(r.ctx(), r.id()); !errdefs.IsNotFound(err) {
		t.Errorf("start of nothing: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(r.dir, "keeper/tasks/*"))
	if err != nil || len(left) != 0 {
		t.Errorf("records left: %q %v", left, err)
	}
}

func TestAttachBeforeCreate(t *testing.T) {
	r := newRig(t)
	q := r.request("sh", "-c", "echo out; echo err >&2; cat; exit 3")
	q.Stdin, q.StdinOnce = true, true
	conn := r.attach(task.AttachRequest{ID: q.ID, Stdin: true, Stdout: true, Stderr: true, Multiplex: true, Pending: []byte("first ")})
	r.start(q)
	if _, err := io.WriteString(conn, "second\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got := map[byte]string{}
	head := make([]byte, 8)
	for {
		if _, err := io.ReadFull(conn, head); err != nil {
			if err != io.EOF {
				t.Fatal(err)
			}
			break
		}
		b := make([]byte, int(head[6])<<8|int(head[7]))
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatal(err)
		}
		got[head[0]] += string(b)
	}
	if got[1] != "out\nfirst second\n" || got[2] != "err\n" {
		t.Errorf("got %q", got)
	}
	if x := r.exit(q.ID, ""); x.Code != 3 {
		t.Errorf("exit %+v", x)
	}
	late := r.attach(task.AttachRequest{ID: q.ID, Stdout: true})
	if b, err := io.ReadAll(late); err != nil || len(b) != 0 {
		t.Errorf("attached after the end: %q, %v", b, err)
	}
}

func TestTerminal(t *testing.T) {
	r := newRig(t)
	q := r.request("sh", "-c", "stty -echo; read a; stty size; read b; echo got $b")
	q.Spec.Process.Terminal = true
	q.Stdin = true
	conn := r.attach(task.AttachRequest{ID: q.ID, Stdin: true, Stdout: true, DetachKeys: []byte{16, 17}})
	r.start(q)
	if err := r.client.Resize(r.ctx(), q.ID, "", 31, 97); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "x\n")
	readUntil(t, conn, "31 97")
	second := r.attach(task.AttachRequest{ID: q.ID, Stdin: true, Stdout: true})
	for _, part := range []string{"\x10", "\x10", "\x11"} { // the first is no beginning of the keys after all
		io.WriteString(conn, part)
		time.Sleep(5 * time.Millisecond)
	}
	if b, err := io.ReadAll(conn); err != nil {
		t.Errorf("after detaching: %q, %v", b, err)
	}
	for len(r.seen) == 0 {
		time.Sleep(time.Millisecond)
	}
	r.mu.Lock()
	other := r.other
	r.mu.Unlock()
	if len(other) != 1 || other[0].Kind != task.EventDetach || other[0].ID != q.ID {
		t.Errorf("events %+v", other)
	}
	io.WriteString(second, "yes\n")
	readUntil(t, second, "yes")
	if x := r.exit(q.ID, ""); x.Code != 0 {
		t.Errorf("exit %+v", x)
	}
}

func readUntil(t *testing.T, c io.Reader, want string) {
	t.Helper()
	var all []byte
	b := make([]byte, 256)
	for !bytes.Contains(all, []byte(want)) {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("no %q in %q: %v", want, all, err)
		}
		all = append(all, b[:n]...)
	}
}

func TestExec(t *testing.T) {
	r := newRig(t)
	id := r.run("sleep", "100")
	conn := r.attach(task.AttachRequest{ID: id, ExecID: "e1", Stdin: true, Stdout: true})
	process := &specs.Process{Args: []string{"sh", "-c", "cat; exit 5"}, Cwd: "/"}
	if _, err := r.client.Exec(r.ctx(), task.ExecRequest{ID: id, ExecID: "e1", Process: process, Stdin: true}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "to the exec")
	conn.CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "to the exec" {
		t.Errorf("got %q, %v", b, err)
	}
	if x := r.exit(id, "e1"); x.Code != 5 {
		t.Errorf("exit %+v", x)
	}
	if err := r.client.DeleteExec(r.ctx(), id, "e1"); err != nil {
		t.Fatal(err)
	}
	_, err := r.client.Exec(r.ctx(), task.ExecRequest{ID: id, ExecID: "e2", Process: &specs.Process{Args: []string{"/missing"}}})
	var e *task.ExecError
	if !errors.As(err, &e) || e.Errno != syscall.ENOENT {
		t.Errorf("missing program: %v", err)
	}
	// One that leaves something behind that holds its output: its exit is told all the same.
	process = &specs.Process{Args: []string{"sh", "-c", "sleep 2 & exit 0"}, Cwd: "/"}
	if _, err := r.client.Exec(r.ctx(), task.ExecRequest{ID: id, ExecID: "e3", Process: process}); err != nil {
		t.Fatal(err)
	}
	r.exit(id, "e3")
	if err := r.client.Kill(r.ctx(), id, "", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if x := r.exit(id, ""); x.Code != 137 {
		t.Errorf("exit %+v", x)
	}
	if s := strings.TrimSpace(r.logged(id)); s != "" {
		t.Errorf("an exec's output is in the log: %q", s)
	}
}
