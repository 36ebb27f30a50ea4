package runstep

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/hostinfo"
	"github.com/kistdev/kist/internal/keeper"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/network"
	kruntime "github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/testbed"
	"github.com/kistdev/kist/internal/treesum"
)

// TestMain makes the test's binary a keeper when it is started as one.
func TestMain(m *testing.M) {
	kruntime.MaybeChild()
	if dir := os.Getenv(task.DirEnv); dir != "" {
		os.Exit(keeper.Main(dir))
	}
	if socket := os.Getenv("DIAL"); socket != "" {
		os.Exit(dial(socket, os.Getenv("SAY")))
	}
	goleak.VerifyTestMain(m)
}

// dial is the test's binary inside of a step: it talks to a socket.
func dial(socket, text string) int {
	c, err := net.Dial("unix", socket)
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	_, _ = c.Write([]byte(text))
	_ = c.(*net.UnixConn).CloseWrite()
	_, _ = io.Copy(os.Stdout, c)
	return 0
}

// wires is a network without one: each step gets a bare namespace.
type wires struct {
	mu     sync.Mutex
	joined map[string]string
}

func (w *wires) Join(_ context.Context, r network.JoinRequest) (*network.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.joined[r.ContainerID] != "" {
		return nil, errors.New("joined twice")
	}
	ns, err := bareNS()
	if err != nil {
		return nil, err
	}
	w.joined[r.ContainerID] = r.Network
	return &network.Sandbox{NS: ns, Resolv: network.ResolvConf{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}}, nil
}

// bareNS makes a network namespace.
func bareNS() (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	ch := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ch <- result{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		ch <- result{f, err}
	}()
	r := <-ch
	return r.f, r.err
}

func (w *wires) Leave(_ context.Context, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.joined, id)
	return nil
}

func (w *wires) Forget(string) {}

func (w *wires) Gateway() netip.Addr { return netip.MustParseAddr("192.0.2.1") }

func (w *wires) HostResolv() (network.ResolvConf, error) {
	return network.ResolvConf{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.54")}}, nil
}

// world is a runner on a real store and a real keeper.
type world struct {
	testing.TB
	config Config
	wires  *wires
	runner *Runner
	base   digest.Digest
}

func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	facts, err := hostinfo.Probe()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, wires: &wires{joined: map[string]string{}}}
	w.config = Config{
		Dir: filepath.Join(dir, "data", "build"), ExecDir: filepath.Join(dir, "exec", "build"), Host: facts.Host,
		CgroupParent: "/kist-test-" + filepath.Base(filepath.Dir(dir)),
	}
	w.config.Host.SystemdCgroup = false
	w.config.Trees, err = treesum.Open(filepath.Join(dir, "data", "trees"))
	w.ok(err)
	w.config.Layers, err = layer.Open(filepath.Join(dir, "data", "layers"))
	w.ok(err)
	t.Cleanup(func() { w.ok(w.config.Layers.Close()) })
	w.base, err = w.config.Layers.Ingest(context.Background(), busybox(t))
	w.ok(err)
	w.open()
	t.Cleanup(w.pruneGroups)
	t.Cleanup(func() { w.ok(w.config.Tasks.Close()) })
	return w
}

// pruneGroups removes the groups' parent, once the keeper, which removes groups behind, has removed the last of them.
func (w *world) pruneGroups() {
	w.Helper()
	for range 200 {
		w.ok(cgroup.Prune(w.config.CgroupParent))
		left, err := filepath.Glob("/sys/fs/cgroup/*" + w.config.CgroupParent)
		w.ok(err)
		if _, err := os.Stat("/sys/fs/cgroup" + w.config.CgroupParent); len(left) == 0 && err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.Error("a control group is left:", w.config.CgroupParent)
}

// open starts the keeper's client and the runner, as the daemon does.
func (w *world) open() {
	w.Helper()
	self, err := os.Executable()
	w.ok(err)
	dir := filepath.Join(filepath.Dir(w.config.ExecDir), "keeper")
	w.config.Tasks, err = task.Open(context.Background(), task.Config{Dir: dir, Command: []string{self}})
	w.ok(err)
	w.runner, err = open(context.Background(), w.config, w.config.Tasks, w.wires)
	w.ok(err)
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// busybox is a root filesystem with a static busybox.
func busybox(t testing.TB) io.Reader {
	t.Helper()
	program := testbed.StaticBusybox(t)
	entries := []tar.Header{{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Linkname: string(program)}}
	for _, name := range strings.Fields("sh sleep true false cat echo ls id pwd env hostname kill touch test head stat mkdir rm find mount readlink ln grep wc dd cp nc chmod") {
		entries = append(entries, tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
	}
	return bytes.NewReader(testbed.Tar(t, append(entries,
		tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644, Linkname: "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"},
		tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644, Linkname: "root:x:0:\nextra:x:2000:app\n"},
		tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "data/deep"},
		tar.Header{Name: "data", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "data/seed", Typeflag: tar.TypeReg, Mode: 0o644, Linkname: "from the image\n"},
	)...))
}

// layer makes a layer of files: path, content, path, content.
func (w *world) layer(files ...string) digest.Digest {
	w.Helper()
	var entries []tar.Header
	for i := 0; i < len(files); i += 2 {
		entries = append(entries, tar.Header{Name: files[i], Typeflag: tar.TypeReg, Mode: 0o644, Linkname: files[i+1]})
	}
	id, err := w.config.Layers.Ingest(context.Background(), bytes.NewReader(testbed.Tar(w, entries...)))
	w.ok(err)
	return id
}

// request is a shell command on the base.
func (w *world) request(script string, mounts ...Mount) Request {
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	return Request{
		ID: hex.EncodeToString(id),
		Op: &pb.ExecOp{Meta: &pb.Meta{Args: []string{"/bin/sh", "-c", script}, Cwd: "/"}},
		Mounts: append([]Mount{{
			Mount: &pb.Mount{Dest: "/", Output: 0}, Source: Source{Layers: []digest.Digest{w.base}},
		}}, mounts...),
	}
}

// run runs a step and returns its output.
func (w *world) run(q Request) (string, []layer.Committed, error) {
	var out bytes.Buffer
	q.Output = &out
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	made, err := w.runner.Run(ctx, q)
	return out.String(), made, err
}

// want runs a step that must succeed with that output.
func (w *world) want(q Request, out string) []layer.Committed {
	w.Helper()
	got, made, err := w.run(q)
	if err != nil {
		w.Fatalf("%v\n%s", err, got)
	}
	if got != out {
		w.Errorf("output %q, want %q", got, out)
	}
	return made
}

// files lists what a layer holds, one name in a line.
func (w *world) files(c layer.Committed) string {
	w.Helper()
	if c.DiffID == "" {
		return ""
	}
	var b bytes.Buffer
	w.ok(w.config.Layers.WriteTar(context.Background(), c.DiffID, &b))
	var names []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " ")
		}
		w.ok(err)
		names = append(names, h.Name)
	}
}

// leftovers fails when something of a step is still there.
func (w *world) leftovers() {
	w.Helper()
	roots, err := w.config.Layers.Prepared()
	w.ok(err)
	tasks, err := w.config.Tasks.List(context.Background())
	w.ok(err)
	steps, err := os.ReadDir(w.runner.stepsDir())
	w.ok(err)
	scratch, err := os.ReadDir(w.runner.scratchDir())
	w.ok(err)
	if len(roots)+len(tasks)+len(steps)+len(scratch)+len(w.wires.joined) > 0 {
		w.Errorf("left: roots %v, tasks %v, steps %v, scratch %v, networks %v", roots, tasks, steps, scratch, w.wires.joined)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	w.ok(err)
	if strings.Contains(string(mounts), w.config.ExecDir) {
		w.Errorf("a mount is left:\n%s", mounts)
	}
}
