package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/sys"
)

func TestMain(m *testing.M) {
	MaybeChild()
	if os.Getenv("KIST_TEST_EVIL") != "" {
		evil()
		os.Exit(0)
	}
	if os.Geteuid() == 0 {
		if err := Seal(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if e := os.Getenv("KIST_TEST_PARENT"); e != "" {
		parent(e, os.Getenv("KIST_TEST_ROOT"))
	}
	code := m.Run()
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
		_ = cgroup.Prune("/kist-test")
	}
	os.Exit(code)
}

// shared is a layer that no test changes.
var shared struct {
	once sync.Once
	dir  string
}

// layers gives the layers of an image with busybox: the topmost is the test's own.
func layers(t testing.TB) []string {
	t.Helper()
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "kist-runtime-")
		must(t, err)
		shared.dir = dir
		fill(t, dir)
	})
	top := t.TempDir()
	for _, d := range []string{"bin", "etc"} {
		must(t, os.Mkdir(filepath.Join(top, d), 0o755))
	}
	return []string{top, shared.dir}
}

// executors runs a test with every executor of this build.
func executors(t *testing.T, f func(t *testing.T, r *Runtime)) {
	t.Helper()
	needRoot(t)
	for _, name := range []string{"fast", "plain"} {
		t.Run(name, func(t *testing.T) {
			if name == "fast" && !haveFast {
				t.Skip("the fast executor is not in this build")
			}
			f(t, newRuntime(t, name))
		})
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
}

func newRuntime(t testing.TB, executor string) *Runtime {
	t.Helper()
	r, err := New(Options{Executor: executor})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// layer makes a directory with busybox and what an image has.
func layer(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	fill(t, dir)
	return dir
}

func fill(t testing.TB, dir string) {
	t.Helper()
	must(t, os.Chmod(dir, 0o755))
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(t, os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	b, err := os.ReadFile("/bin/busybox")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "bin/busybox"), b, 0o755))
	for _, n := range []string{
		"sh", "true", "cat", "ls", "id", "stat", "mount", "sleep", "echo", "tty", "hostname", "mkdir", "touch", "head",
		"readlink", "stty", "dd", "kill", "env", "grep", "ip", "dmesg", "test", "rm", "chroot", "umount", "ps", "wc", "mknod",
	} {
		must(t, os.Symlink("busybox", filepath.Join(dir, "bin", n)))
	}
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var serial atomic.Int64

// bundle is a container with docker's defaults.
func bundle(t testing.TB, args ...string) Bundle {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"upper", "work"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	id := fmt.Sprintf("rt%d-%d", os.Getpid(), serial.Add(1))
	return Bundle{
		ID: id, Spec: dockerSpec(id, args...),
		Rootfs: &sys.Overlay{
			Lower: layers(t), Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Volatile: true,
		},
	}
}

var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

func dockerSpec(id string, args ...string) *specs.Spec {
	pids := int64(100)
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Args: args, Env: []string{"PATH=/usr/bin:/bin", "HOME=/root"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: defaultCaps, Effective: defaultCaps, Permitted: defaultCaps},
		},
		Root:     &specs.Root{},
		Hostname: "kisttest",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/kist-test/" + id,
			Resources:   &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}},
			Namespaces: []specs.LinuxNamespace{
				{Type: "mount"}, {Type: "network"}, {Type: "uts"}, {Type: "pid"}, {Type: "ipc"}, {Type: "cgroup"},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// outcome is what a container left.
type outcome struct {
	out, err string
	code     int
	warnings []string
}

// run runs a container to its end.
func run(t *testing.T, r *Runtime, b Bundle) outcome {
	t.Helper()
	o, err := tryRun(t, r, b)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// sh runs a shell script in a container with docker's defaults, changed by edit.
func sh(t *testing.T, r *Runtime, script string, edit func(b *Bundle)) outcome {
	t.Helper()
	b := bundle(t, "/bin/sh", "-c", script)
	if edit != nil {
		edit(&b)
	}
	return run(t, r, b)
}

func tryRun(t *testing.T, r *Runtime, b Bundle) (o outcome, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	or, ow := pipe(t)
	er, ew := pipe(t)
	p, err := r.Create(ctx, b, Stdio{Stdout: ow, Stderr: ew})
	ow.Close()
	ew.Close()
	if err != nil {
		return o, err
	}
	defer func() {
		if e := r.Delete(context.Background(), p); e != nil {
			t.Error(e)
		}
		p.PIDFD.Close()
	}()
	err = r.Start(ctx, p)
	var out, errs bytes.Buffer
	done := make(chan struct{})
	go func() { _, _ = io.Copy(&errs, er); close(done) }()
	_, _ = io.Copy(&out, or)
	<-done
	o.code = wait(t, p)
	o.out, o.err, o.warnings = out.String(), errs.String(), p.Warnings
	return o, err
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// wait reaps the process and returns the shell's idea of its exit.
func wait(t testing.TB, p *Process) int {
	t.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(p.PID, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		must(t, err)
		break
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func want(t *testing.T, o outcome, code int, out string) {
	t.Helper()
	if o.code != code || strings.TrimSpace(o.out) != out {
		t.Errorf("got exit %d, output %q, errors %q; want exit %d, output %q", o.code, o.out, o.err, code, out)
	}
}
