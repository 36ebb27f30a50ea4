package engine

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
)

// A start that fails half-way leaves nothing put up, and the next one works.
func TestStartIsUndone(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", docker.Config{Cmd: []string{"sleep", "100"}}, docker.HostConfig{IpcMode: "shareable"})
	w.wires.fail = errors.New("port 80 is held by somebody")
	if err := w.engine.Start(t.Context(), id); !errors.Is(err, w.wires.fail) {
		t.Errorf("start: %v", err)
	}
	if s := w.inspect(id).State; s.ExitCode != 128 || !strings.Contains(s.Error, "held by somebody") || s.Status != docker.StateCreated {
		t.Errorf("%+v", s)
	}
	w.wires.fail = nil
	w.ok(w.engine.Start(t.Context(), id))
	joiner := w.create("joiner", docker.Config{Cmd: []string{"touch", "/dev/shm/x"}}, docker.HostConfig{IpcMode: "container:web", NetworkMode: "container:web", PidMode: "container:web"})
	w.ok(w.engine.Start(t.Context(), joiner))
	if code := w.wait(joiner, docker.WaitConditionNotRunning); code != 0 {
		t.Errorf("joiner: %d, %q", code, w.logs(joiner))
	}
	if out, code := w.exec(id, docker.ExecCreateRequest{Cmd: []string{"ls", "/dev/shm"}}); out != "x\n" || code != 0 {
		t.Errorf("shared memory: %q, %d", out, code)
	}
	w.ok(w.engine.Stop(t.Context(), id, StopOptions{}))
	if err := w.engine.Start(t.Context(), joiner); !errdefs.IsConflict(err) {
		t.Errorf("join of a container that does not run: %v", err)
	}
	w.until("shared memory taken down", func() bool {
		_, err := os.Stat(w.engine.shmDir(id))
		return os.IsNotExist(err)
	})
	for _, c := range []string{joiner, id} {
		w.ok(w.engine.Remove(t.Context(), c, RemoveOptions{}))
	}
	w.leftovers()
}

// Following a log ends when the container does, and not before.
func TestFollowLogs(t *testing.T) {
	w := newWorld(t)
	id := w.run("talker", docker.HostConfig{}, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
	var b strings.Builder
	w.ok(w.engine.Logs(t.Context(), id, LogsOptions{
		Stdout: true, Follow: true, Tail: -1, Begin: func(bool) (io.Writer, error) { return &b, nil },
	}))
	if got := unframed([]byte(b.String())); got != "1\n2\n3\n" {
		t.Errorf("followed %q", got)
	}
	none := w.create("none", docker.Config{}, docker.HostConfig{LogConfig: docker.LogConfig{Type: "none"}})
	err := w.engine.Logs(t.Context(), none, LogsOptions{Begin: func(bool) (io.Writer, error) { return io.Discard, nil }})
	if !errdefs.IsNotImplemented(err) {
		t.Errorf("log of driver none: %v", err)
	}
}

// Who was killed for want of memory is told over which limit.
func TestOutOfMemory(t *testing.T) {
	w := newWorld(t)
	id := w.run("hungry", docker.HostConfig{Resources: docker.Resources{Memory: 16 << 20, MemorySwap: 16 << 20}}, "sh", "-c", "x=$(cat /dev/zero | busybox tr '\\0' a)")
	w.wait(id, docker.WaitConditionNotRunning)
	s := w.inspect(id).State
	if !s.OOMKilled {
		t.Skip("the kernel has killed nothing: memory is not limited on this host")
	}
	if end := s.KistExit; s.ExitCode == 137 && (end == nil || end.Reason != EndOutOfMemory || !strings.HasPrefix(end.Text, "killed by the kernel: out of memory, over its limit of 16M (peak 16M)")) {
		t.Errorf("%+v %+v", s.State, end)
	}
}
