package keeper

import (
	"io"
	"strconv"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/task"
)

// An exec whose input has ended before it exists: whoever is told of the process must not keep its input open.
func TestInputEndsBeforeTheProcessIsTold(t *testing.T) {
	r := newRig(t)
	id := r.run("sleep", "100")
	process := &specs.Process{Args: []string{"cat"}, Cwd: "/"}
	for i := range 200 {
		name := "e" + strconv.Itoa(i)
		conn := r.attach(task.AttachRequest{ID: id, ExecID: name, Stdin: true, Stdout: true, Pending: []byte("ahead ")})
		io.WriteString(conn, "of time")
		conn.CloseWrite()
		if _, err := r.client.Exec(r.ctx(), task.ExecRequest{ID: id, ExecID: name, Process: process, Stdin: true}); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(conn); err != nil || string(b) != "ahead of time" {
			t.Fatalf("exec %d: got %q, %v", i, b, err)
		}
		r.exit(id, name)
		conn.Close()
	}
}

// Input that ends while there is no keeper.
func TestInputEndsWithoutAKeeper(t *testing.T) {
	r := newRig(t)
	for range 5 {
		q := r.request("cat")
		q.Stdin, q.StdinOnce = true, true
		conn := r.attach(task.AttachRequest{ID: q.ID, Stdin: true, Stdout: true})
		r.start(q)
		io.WriteString(conn, "before")
		readUntil(t, conn, "before")
		pid := r.keeperPID()
		for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
			if err := syscall.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
			conn.CloseWrite()
		}
		if x := r.exit(q.ID, ""); x.Code != 0 {
			t.Errorf("exit %+v", x)
		}
		conn.Close()
	}
}
