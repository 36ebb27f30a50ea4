package keeper

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/task"
)

// waitFile waits for a file that a script makes.
func waitFile(t *testing.T, path string) {
	t.Helper()
	for range 2000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s does not appear", path)
}

// counting is a script that prints numbers until the file go appears, and then ends with the code.
func (r *rig) counting(code int) (script, stop string) {
	stop = filepath.Join(r.dir, fmt.Sprintf("stop%d", code))
	return fmt.Sprintf(`i=0; while [ ! -e %s ]; do i=$((i+1)); echo $i; sleep 0.001; done; exit %d`, stop, code), stop
}

// gapless checks that the log holds 1, 2, 3 ... and returns the last. A keeper that is killed between reading a pipe and
// writing the log takes with it what it had read, so each kill may cost one gap, but never the order or a line twice.
func (r *rig) gapless(id string, kills int) int {
	r.Helper()
	last, gaps := 0, 0
	for line := range strings.Lines(r.logged(id)) {
		var n int
		if _, err := fmt.Sscanf(line, "stdout:%d\n", &n); err != nil || n <= last {
			r.Fatalf("log has %q after %d", line, last)
		}
		if n != last+1 {
			gaps++
		}
		last = n
	}
	if gaps > kills {
		r.Errorf("%d gaps in the log", gaps)
	}
	return last
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeeperKilled(t *testing.T) {
	r := newRig(t)
	script, stop := r.counting(42)
	id := r.run("sh", "-c", script)
	quick := r.request("sh", "-c", "read line; echo $line; exit 6")
	quick.Stdin = true
	pid := r.start(quick)
	term := r.request("sh", "-c", "echo up; read x; echo $x; exit 8")
	term.Spec.Process.Terminal, term.Stdin = true, true
	r.start(term)
	if _, err := r.client.Exec(r.ctx(), task.ExecRequest{ID: id, ExecID: "e", Process: &specs.Process{Args: []string{"sh", "-c", "sleep 0.3; exit 9"}}}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	early := r.attach(task.AttachRequest{ID: quick.ID, Stdout: true})
	done := r.attach(task.AttachRequest{ID: r.id(), Stdout: true}) // to what will never be
	r.killKeeper()
	r.killKeeper()
	pidfd, ok := r.client.PIDFD(id)
	if !ok || unix.PidfdSendSignal(int(pidfd.Fd()), 0, nil, 0) != nil {
		t.Fatal("the container did not survive")
	}
	conn := r.attach(task.AttachRequest{ID: quick.ID, Stdin: true, Stdout: true})
	io.WriteString(conn, "hello\n")
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello\n" {
		t.Errorf("attached after the crash: %q, %v", b, err)
	}
	if b, err := io.ReadAll(early); err != nil || string(b) != "hello\n" {
		t.Errorf("attached before the crashes: %q, %v", b, err)
	}
	if err := r.client.Delete(r.ctx(), fmt.Sprintf("%064x", r.n)); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(done); err != nil || len(b) != 0 {
		t.Errorf("attached to nothing: %q, %v", b, err)
	}
	conn = r.attach(task.AttachRequest{ID: term.ID, Stdin: true, Stdout: true})
	io.WriteString(conn, "tty\n")
	readUntil(t, conn, "tty")
	touch(t, stop)
	for _, c := range []struct {
		id, exec string
		code     int
	}{{id, "", 42}, {quick.ID, "", 6}, {term.ID, "", 8}, {id, "e", 9}} {
		if x := r.exit(c.id, c.exec); x.Code != c.code || x.Unknown {
			t.Errorf("exit %+v, want code %d", x, c.code)
		}
	}
	if got := r.logged(quick.ID); got != "stdout:hello\n" {
		t.Errorf("log %q", got)
	}
	if got := strings.ReplaceAll(r.logged(term.ID), "\r", ""); got != "stdout:up\nstdout:tty\nstdout:tty\n" {
		t.Errorf("log of the terminal %q", got)
	}
	if n := r.gapless(id, 2); n < 2 {
		t.Errorf("the log ends with %d", n)
	}
	r.reaped(pid, r.exit(id, "").PID, r.exit(term.ID, "").PID, r.exit(id, "e").PID)
}

// reaped checks that none of the processes is a zombie.
func (r *rig) reaped(pids ...int) {
	r.Helper()
	for _, pid := range pids {
		for try := 0; ; try++ {
			fields, err := procStat(pid)
			if err != nil || fields[0][0] != 'Z' {
				break
			}
			if try == 200 {
				r.Errorf("process %d is a zombie", pid)
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func TestClientReplaced(t *testing.T) {
	r := newRig(t)
	script, stop := r.counting(43)
	id := r.run("sh", "-c", script)
	while := r.request("sh", "-c", "sleep 0.2; exit 4")
	r.start(while)
	gone := r.run("sh", "-c", "exit 3")
	r.exit(gone, "")
	if err := r.client.Delete(r.ctx(), gone); err != nil {
		t.Fatal(err)
	}
	told := r.run("sh", "-c", "exit 2") // told, but never acknowledged
	r.exit(told, "")
	conn := r.attach(task.AttachRequest{ID: id, Stdout: true})
	r.client.Close()
	r.mu.Lock()
	clear(r.exits)
	r.mu.Unlock()
	readUntil(t, conn, "\n") // attachments outlive the client
	time.Sleep(300 * time.Millisecond)
	r.open()
	for _, c := range []struct {
		id   string
		code int
	}{{while.ID, 4}, {told, 2}} {
		if x := r.exit(c.id, ""); x.Code != c.code {
			t.Errorf("exit %+v, want %d", x, c.code)
		}
	}
	touch(t, stop)
	if x := r.exit(id, ""); x.Code != 43 {
		t.Errorf("exit %+v", x)
	}
	r.gapless(id, 0)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.exits[gone+"/"] != nil {
		t.Error("an acknowledged exit was told again")
	}
}

func TestBothDie(t *testing.T) {
	r := newRig(t)
	stop := filepath.Join(r.dir, "stop")
	alive := r.run("sh", "-c", fmt.Sprintf("trap '' PIPE; while [ ! -e %s ]; do sleep 0.01; done; exit 44", stop))
	ended := r.run("sh", "-c", "exit 5")
	r.exit(ended, "")
	paused := r.request("true")
	if _, _, err := r.client.Create(r.ctx(), paused); err != nil {
		t.Fatal(err)
	}
	waitFile(t, filepath.Join(r.dir, "keeper/tasks", alive+pidSuffix))
	pid := r.keeperPID()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r.client.Close()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED, nil); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	clear(r.exits)
	r.mu.Unlock()
	r.open()
	if x := r.exit(ended, ""); x.Code != 5 {
		t.Errorf("exit from the record: %+v", x)
	}
	tasks, err := r.client.List(r.ctx())
	if err != nil || len(tasks) != 2 {
		t.Fatalf("tasks %+v, %v", tasks, err)
	}
	if err := r.client.Kill(r.ctx(), paused.ID, "", syscall.SIGTERM); !errdefs.IsNotFound(err) {
		t.Errorf("a task that nobody was to know: %v", err)
	}
	touch(t, stop)
	if x := r.exit(alive, ""); x.Code != 44 || x.Unknown {
		t.Errorf("exit after both died: %+v", x)
	}
}

func TestRequestsDuringCrash(t *testing.T) {
	r := newRig(t)
	stop := make(chan struct{})
	done := make(chan error, 4)
	for range 4 {
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if _, err := r.client.List(r.ctx()); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range 5 {
		r.killKeeper()
		id := r.run("true")
		if x := r.exit(id, ""); x.Code != 0 {
			t.Errorf("exit %+v", x)
		}
	}
	close(stop)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestSlowAttachmentStallsOnlyItsOwn(t *testing.T) {
	r := newRig(t)
	flood := r.request("sh", "-c", "dd if=/dev/zero bs=64k count=100 2>/dev/null")
	flood.Log.Driver = "none"
	conn := r.attach(task.AttachRequest{ID: flood.ID, Stdout: true})
	r.start(flood)
	time.Sleep(100 * time.Millisecond) // nobody reads
	id := r.run("sh", "-c", "echo fine")
	r.exit(id, "")
	r.mu.Lock()
	stalled := r.exits[flood.ID+"/"] == nil
	r.mu.Unlock()
	if !stalled {
		t.Error("6.4 MB went into an attachment that nobody reads")
	}
	n, err := io.Copy(io.Discard, conn)
	if err != nil || n != 100*64<<10 {
		t.Errorf("read %d bytes, %v", n, err)
	}
	r.exit(flood.ID, "")
	// One that goes away altogether is dropped.
	flood.ID = r.id()
	conn = r.attach(task.AttachRequest{ID: flood.ID, Stdout: true})
	r.start(flood)
	conn.Close()
	r.exit(flood.ID, "")
}

func TestAcrossRestarts(t *testing.T) {
	r := newRig(t)
	q := r.request("sh", "-c", "echo run")
	conn := r.attach(task.AttachRequest{ID: q.ID, Stdout: true, AcrossRestarts: true})
	for range 3 {
		r.start(q)
		readUntil(t, conn, "run\n")
		r.exit(q.ID, "")
		if err := r.client.Delete(r.ctx(), q.ID); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		clear(r.exits)
		r.mu.Unlock()
	}
	if err := r.client.Delete(r.ctx(), q.ID); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || len(b) != 0 {
		t.Errorf("after the last delete: %q, %v", b, err)
	}
}

func TestCloseStdin(t *testing.T) {
	r := newRig(t)
	q := r.request("sh", "-c", "cat; exit 11")
	q.Stdin = true
	r.start(q)
	conn := r.attach(task.AttachRequest{ID: q.ID, Stdin: true, Stdout: true})
	io.WriteString(conn, "kept open")
	conn.CloseWrite() // without StdinOnce, input stays open
	readUntil(t, conn, "kept open")
	if err := r.client.CloseStdin(r.ctx(), q.ID, ""); err != nil {
		t.Fatal(err)
	}
	if x := r.exit(q.ID, ""); x.Code != 11 {
		t.Errorf("exit %+v", x)
	}
}

func TestDeleteKills(t *testing.T) {
	r := newRig(t)
	id := r.run("sleep", "1000")
	if err := r.client.Delete(r.ctx(), id); err != nil {
		t.Fatal(err)
	}
	if x := r.exit(id, ""); x.Signal != 9 {
		t.Errorf("exit %+v", x)
	}
	if _, ok := r.client.PIDFD(id); ok {
		t.Error("the client holds a deleted task")
	}
}
