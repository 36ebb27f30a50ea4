package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	dockernet "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/event"
	img "github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/keeper"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/testbed"
	vol "github.com/kistdev/kist/internal/volume"
)

// TestMain makes the test's binary a keeper when it is started as one.
func TestMain(m *testing.M) {
	runtime.MaybeChild()
	if dir := os.Getenv(task.DirEnv); dir != "" {
		os.Exit(keeper.Main(dir))
	}
	goleak.VerifyTestMain(m)
}

// wires is a network without one: each container gets a bare namespace.
type wires struct {
	mu     sync.Mutex
	joined map[string]bool
	fail   error
}

func (w *wires) Join(_ context.Context, r network.JoinRequest) (*network.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return nil, w.fail
	}
	if w.joined[r.ContainerID] {
		return nil, errors.New("joined twice")
	}
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	w.joined[r.ContainerID] = true
	return &network.Sandbox{NS: ns}, nil
}

func (w *wires) Leave(_ context.Context, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.joined, id)
	return nil
}

func (w *wires) Restore(_ context.Context, running []network.Held) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.joined = map[string]bool{}
	for _, h := range running {
		w.joined[h.ContainerID] = true
	}
	return nil
}

func (w *wires) Resolve(name string) (string, error) {
	if name == dockernet.NetworkDefault {
		name = dockernet.NetworkBridge
	}
	return name, nil
}

func (w *wires) Check(string, *dockernet.EndpointSettings) error { return nil }
func (w *wires) Kind(string) string                              { return "bridge" }
func (w *wires) ID(name string) string                           { return "id-of-" + name }
func (w *wires) Rename(string, string)                           {}
func (w *wires) Resolv(string) (r network.ResolvConf, served bool, sockets []int, err error) {
	return r, false, nil, nil
}
func (w *wires) Forget(string) {}

func (w *wires) Connect(_ context.Context, _, name string, s *dockernet.EndpointSettings, _ *os.File) (string, *dockernet.EndpointSettings, error) {
	made := s.Copy()
	if made == nil {
		made = &dockernet.EndpointSettings{}
	}
	made.NetworkID = "id of " + name
	return name, made, nil
}

func (w *wires) Disconnect(_ context.Context, _, name string, _ *os.File) (string, *dockernet.EndpointSettings, error) {
	return name, &dockernet.EndpointSettings{NetworkID: "id of " + name}, nil
}

func (w *wires) Publish(_ context.Context, _ string, add, _ dockernet.PortMap) (dockernet.PortMap, error) {
	return add, nil
}

func (w *wires) Takeover(_ context.Context, _, _ string, t network.Takeover) (from, to network.Taken, err error) {
	return network.Taken{}, network.Taken{Ports: t.Ports}, nil
}

func (w *wires) Warnings() []string { return []string{"there is no network"} }

func (w *wires) HostResolv() (network.ResolvConf, error) {
	return network.ResolvConf{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}, nil
}

// world is an engine on real stores and a real keeper.
type world struct {
	*testing.T
	config Config
	wires  *wires
	engine *Engine
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	ctx, dir := t.Context(), t.TempDir()
	w := &world{T: t, wires: &wires{joined: map[string]bool{}}}
	w.config = Config{
		DataRoot: filepath.Join(dir, "data"), ExecRoot: filepath.Join(dir, "exec"), Events: new(event.Bus),
		CgroupParent: "/kist-test-" + filepath.Base(filepath.Dir(dir)), CgroupDriver: "cgroupfs", Version: "test",
	}
	var err error
	if w.config.Layers, err = layer.Open(filepath.Join(dir, "data", "layers")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.ok(w.config.Layers.Close()) })
	w.config.Images, err = img.Open(img.Options{
		Dir: filepath.Join(dir, "data", "content"), Layers: w.config.Layers, Events: w.config.Events,
		InUse: func() map[digest.Digest][]string { return w.engine.ImagesInUse() },
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.config.Volumes, err = vol.Open(filepath.Join(dir, "data", "volumes"), w.config.Events); err != nil {
		t.Fatal(err)
	}
	_, err = w.config.Images.Import(ctx, busybox(t), img.ImportOptions{
		Ref: "test:1", Changes: []string{`CMD ["sh"]`, "ENV GREETING=hello", "LABEL made=here"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(w.prune) // Last of all.
	t.Cleanup(func() {
		for _, c := range w.engine.index.all() {
			w.ok(w.engine.Remove(context.Background(), c.id, RemoveOptions{Force: true, Volumes: true}))
		}
		w.close()
	})
	return w
}

// prune removes the groups' parent. The group of a container that has removed itself goes a moment after it.
func (w *world) prune() {
	w.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		w.ok(cgroup.Prune(w.config.CgroupParent))
		var left []string
		for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			found, err := filepath.Glob(root + w.config.CgroupParent)
			w.ok(err)
			left = append(left, found...)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			w.Errorf("groups are left: %v", left)
			return
		}
	}
}

// open starts the keeper's client and the engine, as the daemon does.
func (w *world) open() {
	w.Helper()
	self, err := os.Executable()
	w.ok(err)
	dir := filepath.Join(w.config.ExecRoot, "keeper")
	w.config.Tasks, err = task.Open(w.Context(), task.Config{Dir: dir, Command: []string{self}})
	w.ok(err)
	w.engine, err = open(w.Context(), w.config, w.config.Tasks, w.wires)
	w.ok(err)
}

// close is the daemon's end; containers go on.
func (w *world) close() {
	w.Helper()
	w.ok(w.engine.Close())
	w.ok(w.config.Tasks.Close())
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// busybox is a root filesystem with a static busybox.
func busybox(t *testing.T) io.Reader {
	t.Helper()
	program := testbed.StaticBusybox(t)
	var entries []tar.Header
	for _, dir := range []string{"bin", "etc", "dev", "proc", "sys", "tmp", "root", "data"} {
		entries = append(entries, tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755})
	}
	entries = append(entries, tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Linkname: string(program)})
	for _, name := range strings.Fields("sh sleep true false cat echo ls id pwd env hostname kill touch test head") {
		entries = append(entries, tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
	}
	return bytes.NewReader(testbed.Tar(t, append(
		entries,
		tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Linkname: "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"},
		tar.Header{Name: "data/seed", Typeflag: tar.TypeReg, Linkname: "from the image\n"},
	)...))
}

// create makes a container of the test image.
func (w *world) create(name string, c docker.Config, h docker.HostConfig) string {
	w.Helper()
	c.Image = "test:1"
	r, err := w.engine.Create(w.Context(), name, nil, docker.CreateRequest{Config: &c, HostConfig: &h})
	w.ok(err)
	return r.ID
}

// run is create and start.
func (w *world) run(name string, h docker.HostConfig, cmd ...string) string {
	w.Helper()
	id := w.create(name, docker.Config{Cmd: cmd}, h)
	w.ok(w.engine.Start(w.Context(), id))
	return id
}

// wait waits for the condition and returns the exit code.
func (w *world) wait(id string, condition docker.WaitCondition) int {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	ch, err := w.engine.Wait(ctx, id, condition)
	w.ok(err)
	r, ok := <-ch
	if !ok {
		w.Fatalf("container %s: %s did not come", id, condition)
	}
	return int(r.StatusCode)
}

func (w *world) inspect(id string) *Inspection {
	w.Helper()
	i, err := w.engine.Inspect(w.Context(), id, false)
	w.ok(err)
	return i
}

// until waits for a condition that comes by itself.
func (w *world) until(what string, holds func() bool) {
	w.Helper()
	for end := time.Now().Add(15 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%s: not within 15 seconds", what)
		}
	}
}

// logs returns what the container has written, unframed, stdout and stderr.
func (w *world) logs(id string) string {
	w.Helper()
	var b bytes.Buffer
	w.ok(w.engine.Logs(w.Context(), id, LogsOptions{
		Stdout: true, Stderr: true, Tail: -1, Begin: func(bool) (io.Writer, error) { return &b, nil },
	}))
	return unframed(b.Bytes())
}

func unframed(b []byte) string {
	var text strings.Builder
	for len(b) >= 8 {
		n := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		text.Write(b[8 : 8+n])
		b = b[8+n:]
	}
	return text.String()
}

// exec runs a command in the container and returns its output and exit code.
func (w *world) exec(id string, r docker.ExecCreateRequest) (string, int) {
	w.Helper()
	r.AttachStdout, r.AttachStderr = true, true
	x, err := w.engine.ExecCreate(w.Context(), id, r)
	w.ok(err)
	near, far := w.pair()
	err = w.engine.ExecStart(w.Context(), x, ExecStartOptions{Hijack: func(bool) (Stream, error) { return Stream{File: far}, nil }})
	out, readErr := io.ReadAll(near)
	w.ok(readErr)
	_ = near.Close()
	i, inspectErr := w.engine.ExecInspect(w.Context(), x)
	w.ok(inspectErr)
	if i.ExitCode == nil {
		w.Fatalf("exec has no exit code: %+v, %v", i, err)
	}
	return unframed(out), *i.ExitCode
}

// pair is a connection: this test's end, and the one to give away.
func (w *world) pair() (near, far *os.File) {
	w.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	w.ok(err)
	w.ok(unix.SetNonblock(fds[0], true)) // With that, a deadline can be set.
	return os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
}

// leftovers fails when something of a removed container is still there.
func (w *world) leftovers() {
	w.Helper()
	w.until("no root filesystem, directory, task and wire", func() bool {
		roots, err := w.config.Layers.Prepared()
		w.ok(err)
		dirs, err := os.ReadDir(filepath.Join(w.config.DataRoot, "containers"))
		w.ok(err)
		tasks, err := w.config.Tasks.List(w.Context())
		w.ok(err)
		w.wires.mu.Lock()
		defer w.wires.mu.Unlock()
		return len(roots)+len(dirs)+len(tasks)+len(w.wires.joined) == 0
	})
	rows, err := w.engine.ledger.all()
	w.ok(err)
	if len(rows) > 0 {
		w.Errorf("%d rows are left", len(rows))
	}
}

// actions are the events of a container so far.
func (w *world) actions(id string) []string {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	past, _ := w.config.Events.Subscribe(ctx, time.Unix(1, 0))
	var list []string
	for _, m := range past {
		if m.Type == events.ContainerEventType && m.Actor.ID == id {
			list = append(list, string(m.Action))
		}
	}
	return list
}

func isConflict(err error) bool { return errdefs.IsConflict(err) }
