package keeper

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/task"
)

// TestKeeperEndsByItself runs a keeper inside the test's process, which must leave no goroutine.
func TestKeeperEndsByItself(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	ended := make(chan error, 1)
	go func() { ended <- run(context.Background(), dir, &fakeRunner{}, 200*time.Millisecond) }()
	waitFile(t, filepath.Join(dir, task.SocketName))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := task.Open(ctx, task.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%064x", 1)
	_, _, err = c.Run(ctx, task.CreateRequest{
		ID: id, Log: logfile.Config{Driver: "none"}, Spec: &specs.Spec{Process: &specs.Process{Args: []string{"sleep", "0.5"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	select { // longer than it lingers: it holds a container, then an exit that nobody has acknowledged
	case err := <-ended:
		t.Fatalf("the keeper left a container alone: %v", err)
	case <-time.After(time.Second):
	}
	if c, err = task.Open(ctx, task.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if e := <-c.Events(); e.Kind != task.EventExit || e.ID != id || e.Exit.Code != 0 {
		t.Errorf("event %+v", e)
	}
	if err := c.Delete(ctx, id); err != nil {
		t.Error(err)
	}
	c.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the keeper does not end")
	}
}

// victimEnv makes the test's binary a client that starts a keeper and a container, and waits to be killed.
const victimEnv = "KIST_TEST_VICTIM"

func victim(dir string) {
	os.Unsetenv(victimEnv)
	exe, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx := context.Background()
	c, err := task.Open(ctx, task.Config{Dir: filepath.Join(dir, "keeper"), Command: []string{exe}})
	if err == nil {
		r := &rig{dir: dir}
		_, _, err = c.Run(ctx, task.CreateRequest{ID: r.id(), Log: r.log(fmt.Sprintf("%064x", 1)), Spec: &specs.Spec{Process: &specs.Process{
			Args: []string{"sh", "-c", "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo $i; sleep 0.001; done; exit 33"},
		}}})
	}
	fmt.Println("running", err)
	time.Sleep(time.Hour)
}

// TestClientKilled kills the keeper's parent: container, log and exit status do not notice.
func TestClientKilled(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), victimEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "running <nil>\n" {
		t.Errorf("the victim says %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // by the signal
	r := &rig{T: t, dir: dir, exits: map[string]*task.Exit{}, seen: make(chan struct{}, 1000)}
	r.open()
	t.Cleanup(r.end)
	id := r.id()
	if x := r.exit(id, ""); x.Code != 33 || x.Unknown {
		t.Errorf("exit %+v", x)
	}
	if n := r.gapless(id, 0); n != 200 {
		t.Errorf("%d lines", n)
	}
}
