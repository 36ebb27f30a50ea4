package engine

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestRunToTheEnd(t *testing.T) {
	w := newWorld(t)
	id := w.create("one", docker.Config{Cmd: []string{"sh", "-c", "echo $GREETING; echo oops >&2; exit 3"}}, docker.HostConfig{})
	if got := w.inspect("one").State.Status; got != docker.StateCreated {
		t.Errorf("state %s", got)
	}
	near, far := w.pair()
	w.ok(w.engine.Attach(t.Context(), id, AttachOptions{
		Stdout: true, Stderr: true, Stream: true, Hijack: func(bool) (Stream, error) { return Stream{File: far}, nil },
	}))
	w.ok(w.engine.Start(t.Context(), id))
	out, err := io.ReadAll(near)
	w.ok(err)
	_ = near.Close()
	if got := unframed(out); !strings.Contains(got, "hello\n") || !strings.Contains(got, "oops\n") {
		t.Errorf("attached to %q", got)
	}
	if code := w.wait(id, docker.WaitConditionNotRunning); code != 3 {
		t.Errorf("exit code %d", code)
	}
	if got := w.logs(id); !strings.Contains(got, "hello\n") || !strings.Contains(got, "oops\n") {
		t.Errorf("log %q", got)
	}
	i := w.inspect(id)
	if i.State.Status != docker.StateExited || i.State.ExitCode != 3 || i.State.Pid != 0 || i.Config.Labels["made"] != "here" {
		t.Errorf("%+v", i.State)
	}
	w.ok(w.engine.Remove(t.Context(), id, RemoveOptions{}))
	w.leftovers()
	want := []string{"create", "attach", "start", "die", "destroy"}
	if d := cmp.Diff(want, w.actions(id)); d != "" {
		t.Error(d)
	}
}

// A client starts the container as soon as it is told that it is attached: whatever takes longer then, it gets the output
// and its end.
func TestStartComesAfterAttach(t *testing.T) {
	w := newWorld(t)
	id := w.create("one", docker.Config{Cmd: []string{"echo", "words"}}, docker.HostConfig{AutoRemove: true})
	near, far := w.pair()
	started := make(chan error, 1)
	w.ok(w.engine.Attach(t.Context(), id, AttachOptions{
		Stdout: true, Stderr: true, Stream: true, Hijack: func(bool) (Stream, error) {
			go func() { started <- w.engine.Start(t.Context(), id) }()
			select {
			case err := <-started:
				t.Error("started before it was attached")
				started <- err
			case <-time.After(200 * time.Millisecond): // A start takes a few.
			}
			return Stream{File: far}, nil
		},
	}))
	w.ok(<-started)
	w.ok(near.SetReadDeadline(time.Now().Add(10 * time.Second)))
	out, err := io.ReadAll(near)
	w.ok(err)
	_ = near.Close()
	if got := unframed(out); got != "words\n" {
		t.Errorf("attached to %q", got)
	}
}

func TestAutoRemove(t *testing.T) {
	w := newWorld(t)
	id := w.create("tmp", docker.Config{Cmd: []string{"sh", "-c", "exit 5"}, Volumes: map[string]struct{}{"/data": {}}}, docker.HostConfig{AutoRemove: true})
	gone := make(chan int)
	ch, err := w.engine.Wait(t.Context(), id, docker.WaitConditionRemoved)
	w.ok(err)
	go func() { gone <- int((<-ch).StatusCode) }()
	w.ok(w.engine.Start(t.Context(), id))
	if code := <-gone; code != 5 {
		t.Errorf("exit code %d", code)
	}
	if _, err := w.engine.Inspect(t.Context(), "tmp", false); !errdefs.IsNotFound(err) {
		t.Errorf("after its removal: %v", err)
	}
	w.leftovers()
	volumes, _, err := w.config.Volumes.List(t.Context(), nil)
	w.ok(err)
	if len(volumes) != 0 {
		t.Errorf("volumes are left: %+v", volumes)
	}
}

func TestStartFailures(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		cmd  string
		code int
		text string
	}{
		{"bash", 127, `exec: "bash": executable file not found in $PATH: bash is not in this image; sh is`},
		{"/etc/passwd", 126, "permission denied: /etc/passwd is not executable"},
		{"/etc", 126, "is a directory"},
	} {
		id := w.create("", docker.Config{Cmd: []string{tt.cmd}}, docker.HostConfig{})
		err := w.engine.Start(t.Context(), id)
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.cmd, err)
		}
		i := w.inspect(id)
		if i.State.Status != docker.StateCreated || i.State.ExitCode != tt.code || i.State.Error == "" {
			t.Errorf("%s: %+v", tt.cmd, i.State)
		}
		w.ok(w.engine.Remove(t.Context(), id, RemoveOptions{}))
	}
	id := w.create("", docker.Config{Cmd: []string{"nosuch"}}, docker.HostConfig{AutoRemove: true})
	if err := w.engine.Start(t.Context(), id); err == nil {
		t.Error("a missing program was started")
	}
	w.leftovers()
}

func TestStartTwice(t *testing.T) {
	w := newWorld(t)
	id := w.create("twice", docker.Config{Cmd: []string{"sleep", "100"}}, docker.HostConfig{})
	errs := make([]error, 5)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = w.engine.Start(t.Context(), id) })
	}
	wg.Wait()
	started := 0
	for _, err := range errs {
		if err == nil {
			started++
		} else if !errdefs.IsNotModified(err) {
			t.Error(err)
		}
	}
	if started != 1 {
		t.Errorf("%d of 5 starts did it", started)
	}
	if err := w.engine.Remove(t.Context(), id, RemoveOptions{}); !isConflict(err) || !strings.Contains(err.Error(), "container is running") {
		t.Errorf("rm of a running container: %v", err)
	}
}

func TestRemoveForceDuringStart(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		id := w.create("", docker.Config{Cmd: []string{"sleep", "100"}}, docker.HostConfig{})
		done := make(chan error, 1)
		go func() { done <- w.engine.Start(t.Context(), id) }()
		w.ok(w.engine.Remove(t.Context(), id, RemoveOptions{Force: true}))
		if err := <-done; err != nil && !isConflict(err) && !errdefs.IsNotFound(err) {
			t.Error(err)
		}
	}
	w.leftovers()
}

// A process that cannot get SIGTERM is not waited for, one that can has its grace time.
func TestStop(t *testing.T) {
	w := newWorld(t)
	deaf := w.run("deaf", docker.HostConfig{}, "sleep", "100")
	began := time.Now()
	w.ok(w.engine.Stop(t.Context(), deaf, StopOptions{}))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stop took %v", took)
	}
	if s := w.inspect(deaf).State; s.ExitCode != 137 || s.KistExit == nil || !strings.Contains(s.KistExit.Text, "no handler for SIGTERM") {
		t.Errorf("%+v %+v", s.State, s.KistExit)
	}
	if err := w.engine.Stop(t.Context(), deaf, StopOptions{}); !errdefs.IsNotModified(err) {
		t.Errorf("second stop: %v", err)
	}
	kind := w.run("kind", docker.HostConfig{}, "sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done")
	w.until("ready", func() bool { return strings.Contains(w.logs(kind), "ready") })
	w.ok(w.engine.Stop(t.Context(), kind, StopOptions{}))
	if s := w.inspect(kind).State; s.ExitCode != 4 || s.Error != "" {
		t.Errorf("%+v", s)
	}
	stubborn := w.run("stubborn", docker.HostConfig{}, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	w.until("ready", func() bool { return strings.Contains(w.logs(stubborn), "ready") })
	began, one := time.Now(), 1
	w.ok(w.engine.Stop(t.Context(), stubborn, StopOptions{Timeout: &one}))
	if took := time.Since(began); took < time.Second || w.inspect(stubborn).State.ExitCode != 137 {
		t.Errorf("stop took %v: %+v", took, w.inspect(stubborn).State)
	}
}

func TestKillAndRestartPolicy(t *testing.T) {
	w := newWorld(t)
	id := w.run("again", docker.HostConfig{RestartPolicy: docker.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}}, "sh", "-c", "echo run; exit 1")
	if code := w.wait(id, docker.WaitConditionNotRunning); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if i := w.inspect(id); i.RestartCount != 2 || strings.Count(w.logs(id), "run\n") != 3 {
		t.Errorf("%d restarts, log %q", i.RestartCount, w.logs(id))
	}
	// A stop while it waits for its next run lets the attachments go that were made across runs.
	crash := w.create("crash", docker.Config{Cmd: []string{"false"}}, docker.HostConfig{RestartPolicy: docker.RestartPolicy{Name: "always"}})
	near, far := w.pair()
	w.ok(w.engine.Attach(t.Context(), crash, AttachOptions{
		Stdout: true, Stream: true, Hijack: func(bool) (Stream, error) { return Stream{File: far}, nil },
	}))
	w.ok(w.engine.Start(t.Context(), crash))
	w.until("a wait that is long enough", func() bool {
		i := w.inspect(crash)
		return i.State.Restarting && i.RestartCount >= 2
	})
	w.ok(w.engine.Stop(t.Context(), crash, StopOptions{}))
	if _, err := io.ReadAll(near); err != nil {
		t.Error(err)
	}
	_ = near.Close()
	if s := w.inspect(crash).State; s.Status != docker.StateExited || s.ExitCode != 1 {
		t.Errorf("%+v", s)
	}
	always := w.run("always", docker.HostConfig{RestartPolicy: docker.RestartPolicy{Name: "always"}}, "sleep", "100")
	w.ok(w.engine.Kill(t.Context(), always, "KILL"))
	time.Sleep(300 * time.Millisecond)
	if s := w.inspect(always).State; s.Status != docker.StateExited {
		t.Errorf("killed by hand, and then %s", s.Status)
	}
	if err := w.engine.Kill(t.Context(), always, ""); !isConflict(err) || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("kill of a stopped one: %v", err)
	}
	w.ok(w.engine.Start(t.Context(), always))
	pid := w.inspect(always).State.Pid
	w.ok(syscall.Kill(pid, syscall.SIGKILL)) // Not by hand: it comes back.
	w.until("a new run", func() bool { s := w.inspect(always).State; return s.Running && s.Pid != 0 && s.Pid != pid })
	if n := w.inspect(always).RestartCount; n != 1 {
		t.Errorf("%d restarts", n)
	}
}

func TestHealthRestartsUnhealthy(t *testing.T) {
	w := newWorld(t)
	check := &docker.HealthConfig{Test: []string{"CMD-SHELL", "test -f /healthy || { echo not yet; false; }"}, Interval: 50 * time.Millisecond, Retries: 2}
	create := func(name string, labels map[string]string) string {
		id := w.create(name, docker.Config{Cmd: []string{"sleep", "100"}, Healthcheck: check, Labels: labels},
			docker.HostConfig{RestartPolicy: docker.RestartPolicy{Name: "always"}})
		w.ok(w.engine.Start(t.Context(), id))
		return id
	}
	left := create("left", map[string]string{restartUnhealthyLabel: "false"})
	w.until("unhealthy", func() bool { return w.inspect(left).State.Health.Status == docker.Unhealthy })
	h := w.inspect(left).State.Health
	if h.FailingStreak < 2 || h.Log[0].ExitCode != 1 || h.Log[0].Output != "not yet\n" {
		t.Errorf("%+v %+v", h, h.Log[0])
	}
	if _, code := w.exec(left, docker.ExecCreateRequest{Cmd: []string{"touch", "/healthy"}}); code != 0 {
		t.Errorf("touch: %d", code)
	}
	w.until("healthy", func() bool { return w.inspect(left).State.Health.Status == docker.Healthy })
	if n := w.inspect(left).RestartCount; n != 0 {
		t.Errorf("%d restarts in spite of the label", n)
	}
	again := create("again", nil)
	w.until("a restart", func() bool { return w.inspect(again).RestartCount > 0 })
	if !slices.Contains(w.actions(again), "health_status: unhealthy") {
		t.Errorf("events %v", w.actions(again))
	}
}

func TestExec(t *testing.T) {
	w := newWorld(t)
	id := w.run("box", docker.HostConfig{}, "sleep", "100")
	out, code := w.exec(id, docker.ExecCreateRequest{Cmd: []string{"sh", "-c", "id -u; pwd; echo $X $GREETING; exit 7"}, User: "app", WorkingDir: "/tmp", Env: []string{"X=1"}})
	if out != "1000\n/tmp\n1 hello\n" || code != 7 {
		t.Errorf("%q, %d", out, code)
	}
	out, code = w.exec(id, docker.ExecCreateRequest{Cmd: []string{"bash"}})
	if code != 127 || !strings.Contains(out, "bash is not in this image; sh is") {
		t.Errorf("%q, %d", out, code)
	}
	w.ok(w.engine.Pause(t.Context(), id))
	if _, err := w.engine.ExecCreate(t.Context(), id, docker.ExecCreateRequest{Cmd: []string{"true"}}); !isConflict(err) {
		t.Errorf("exec in a paused container: %v", err)
	}
	if s := w.inspect(id).State; !s.Paused || s.Status != docker.StatePaused {
		t.Errorf("%+v", s)
	}
	w.ok(w.engine.Unpause(t.Context(), id))
	w.ok(w.engine.Stop(t.Context(), id, StopOptions{}))
	if _, err := w.engine.ExecCreate(t.Context(), id, docker.ExecCreateRequest{Cmd: []string{"true"}}); !isConflict(err) {
		t.Errorf("exec in a stopped container: %v", err)
	}
	if _, err := w.engine.ExecInspect(t.Context(), "nosuch"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

func TestMounts(t *testing.T) {
	w := newWorld(t)
	host := t.TempDir()
	w.ok(os.WriteFile(filepath.Join(host, "file"), []byte("from the host\n"), 0o644))
	made := filepath.Join(host, "made", "deep")
	id := w.create("mm", docker.Config{
		Cmd:     []string{"sh", "-c", "cat /bind/file /data/seed; echo x > /data/new; touch /bind/no 2>&1; touch /tmpfs/yes && echo tmpfs; ls /sub"},
		Volumes: map[string]struct{}{"/anon": {}, "/bind": {}},
	}, docker.HostConfig{
		Binds: []string{host + ":/bind:ro", "named:/data", made + ":/made"}, Tmpfs: map[string]string{"/tmpfs": "size=1m"},
	})
	w.ok(w.engine.Start(t.Context(), id))
	w.wait(id, docker.WaitConditionNotRunning)
	log := w.logs(id)
	for _, want := range []string{"from the host\n", "from the image\n", "Read-only file system", "tmpfs\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("log %q lacks %q", log, want)
		}
	}
	if st, err := os.Stat(made); err != nil || !st.IsDir() {
		t.Errorf("missing source of -v: %v", err)
	}
	var targets []string
	for _, m := range w.inspect(id).Mounts {
		targets = append(targets, m.Destination)
	}
	if d := cmp.Diff([]string{"/anon", "/bind", "/data", "/made"}, targets); d != "" {
		t.Error(d)
	}
	// What the container wrote is in the volume, for another one with a part of it.
	sub := w.create("sub", docker.Config{Cmd: []string{"ls", "/sub", "/anon"}}, docker.HostConfig{VolumesFrom: []string{"mm:ro"}, Mounts: []mount.Mount{
		{Type: "volume", Source: "named", Target: "/sub"},
	}})
	w.ok(w.engine.Start(t.Context(), sub))
	w.wait(sub, docker.WaitConditionNotRunning)
	if log := w.logs(sub); !strings.Contains(log, "new\nseed\n") {
		t.Errorf("log %q", log)
	}
	_, err := w.engine.Create(t.Context(), "", nil, docker.CreateRequest{
		Config: &docker.Config{Image: "test:1"}, HostConfig: &docker.HostConfig{Mounts: []mount.Mount{{Type: "bind", Source: "/no/such", Target: "/x"}}},
	})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `bind source path does not exist: /no/such`) {
		t.Errorf("missing source of --mount: %v", err)
	}
	w.ok(w.engine.Remove(t.Context(), sub, RemoveOptions{Volumes: true}))
	w.ok(w.engine.Remove(t.Context(), id, RemoveOptions{Volumes: true}))
	volumes, _, err := w.config.Volumes.List(t.Context(), nil)
	w.ok(err)
	if len(volumes) != 1 || volumes[0].Name != "named" {
		t.Errorf("volumes %+v", volumes)
	}
	w.leftovers()
}

func TestSubpathStaysInside(t *testing.T) {
	w := newWorld(t)
	v, _, err := w.config.Volumes.Ensure(t.Context(), "vv", "", nil, nil)
	w.ok(err)
	w.ok(os.Mkdir(filepath.Join(v.Mountpoint, "good"), 0o755))
	w.ok(os.WriteFile(filepath.Join(v.Mountpoint, "good", "here"), nil, 0o644))
	w.ok(os.Symlink("/etc", filepath.Join(v.Mountpoint, "evil")))
	with := func(sub string) docker.HostConfig {
		return docker.HostConfig{Mounts: []mount.Mount{{Type: "volume", Source: "vv", Target: "/m", VolumeOptions: &mount.VolumeOptions{Subpath: sub}}}}
	}
	id := w.create("good", docker.Config{Cmd: []string{"ls", "/m"}}, with("good"))
	w.ok(w.engine.Start(t.Context(), id))
	w.wait(id, docker.WaitConditionNotRunning)
	if log := w.logs(id); log != "here\n" {
		t.Errorf("log %q", log)
	}
	id = w.create("evil", docker.Config{Cmd: []string{"ls", "/m"}}, with("evil"))
	if err := w.engine.Start(t.Context(), id); err == nil {
		t.Errorf("a link out of the volume was followed: %s", w.logs(id))
	}
}

func TestNameConflictAndUnknownImage(t *testing.T) {
	w := newWorld(t)
	w.create("taken", docker.Config{}, docker.HostConfig{})
	_, err := w.engine.Create(t.Context(), "taken", nil, docker.CreateRequest{Config: &docker.Config{Image: "test:1"}})
	if !isConflict(err) || !strings.Contains(err.Error(), `The container name "/taken" is already in use by container`) {
		t.Error(err)
	}
	_, err = w.engine.Create(t.Context(), "", nil, docker.CreateRequest{Config: &docker.Config{Image: "nosuch"}})
	if !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), "No such image: nosuch:latest") {
		t.Error(err)
	}
	_, err = w.engine.Create(t.Context(), "", nil, docker.CreateRequest{Config: &docker.Config{Image: "test:1"}, HostConfig: &docker.HostConfig{VolumesFrom: []string{"nobody"}}})
	if !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	w.ok(w.engine.Rename(t.Context(), "taken", "free"))
	if got := w.inspect("free").Name; got != "/free" {
		t.Error(got)
	}
	w.ok(w.engine.Remove(t.Context(), "free", RemoveOptions{}))
	w.leftovers()
}

// The end of the daemon, with or without notice, is none of the containers' business.
func TestReopen(t *testing.T) {
	w := newWorld(t)
	stays := w.run("stays", docker.HostConfig{}, "sh", "-c", "trap 'exit 6' TERM; while :; do echo x; sleep 0.05; done")
	ends := w.run("ends", docker.HostConfig{}, "sh", "-c", "sleep 0.3; exit 9")
	temporary := w.run("temporary", docker.HostConfig{AutoRemove: true}, "sh", "-c", "sleep 0.3")
	again := w.run("again", docker.HostConfig{RestartPolicy: docker.RestartPolicy{Name: "always"}}, "sh", "-c", "sleep 0.3; exit 2")
	never := w.create("never", docker.Config{}, docker.HostConfig{RestartPolicy: docker.RestartPolicy{Name: "always"}})
	pid := w.inspect(stays).State.Pid
	w.close()
	time.Sleep(600 * time.Millisecond)
	// What a crash may leave.
	w.ok(os.MkdirAll(filepath.Join(w.config.DataRoot, "containers", strings.Repeat("0", 64)), 0o700))
	w.open()
	if s := w.inspect(stays).State; s.Status != docker.StateRunning || s.Pid != pid {
		t.Errorf("it went on: %+v", s)
	}
	if code := w.wait(ends, docker.WaitConditionNotRunning); code != 9 {
		t.Errorf("exit code %d", code)
	}
	w.until("auto-remove", func() bool {
		_, err := w.engine.Inspect(context.Background(), temporary, false)
		return errdefs.IsNotFound(err)
	})
	w.until("restart", func() bool { return w.inspect(again).RestartCount > 0 })
	if s := w.inspect(never).State; s.Status != docker.StateCreated {
		t.Errorf("never started: %+v", s)
	}
	w.ok(w.engine.Stop(t.Context(), stays, StopOptions{}))
	if s := w.inspect(stays).State; s.ExitCode != 6 {
		t.Errorf("%+v", s)
	}
	for _, id := range []string{stays, ends, again, never} {
		w.ok(w.engine.Remove(t.Context(), id, RemoveOptions{Force: true}))
	}
	w.leftovers()
}
