package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/task"
)

// newRealRig is a rig whose keeper uses package runtime.
func newRealRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	t.Setenv("KIST_TEST_RUNNER", "real")
	return newRig(t)
}

// busybox makes a root filesystem once per rig.
func (r *rig) busybox() string {
	r.Helper()
	dir := filepath.Join(r.dir, "layer")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		r.Fatal(err)
	}
	for _, d := range []string{"bin", "proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			r.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), b, 0o755); err != nil {
		r.Fatal(err)
	}
	for _, n := range []string{"sh", "true", "cat", "sleep", "echo", "stty", "kill", "head", "tail", "dd", "ls", "rm", "test"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", n)); err != nil {
			r.Fatal(err)
		}
	}
	return dir
}

// container is a request for one with namespaces of its own.
func (r *rig) container(args ...string) task.CreateRequest {
	r.Helper()
	q := r.request(args...)
	q.ID = fmt.Sprintf("%016x%016x%032x", os.Getpid(), time.Now().UnixNano(), r.n)
	q.Log = r.log(q.ID)
	upper := filepath.Join(r.dir, q.ID)
	for _, d := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(upper, d), 0o755); err != nil {
			r.Fatal(err)
		}
	}
	q.Rootfs = &sys.Overlay{Lower: []string{r.busybox()}, Upper: upper + "/upper", Work: upper + "/work", Volatile: true}
	q.Spec.Version = specs.Version
	q.Spec.Process.Env = []string{"PATH=/bin"}
	q.Spec.Mounts = []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
	}
	q.Spec.Linux.CgroupsPath = "/kist-test-keeper/" + q.ID
	q.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: "mount"}, {Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "network"}}
	names := []string{}
	for i := range 300 {
		names = append(names, fmt.Sprintf("no_such_call_%d", i))
	}
	q.Spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: append(names, "swapon"), Action: specs.ActErrno}},
	}
	return q
}

// launch starts a real container.
func (r *rig) launch(q task.CreateRequest) int {
	r.Helper()
	pid, warnings, err := r.client.Run(r.ctx(), q)
	if err != nil {
		r.Fatal(err)
	}
	for _, w := range warnings {
		r.Log(w)
	}
	return pid
}

func (r *rig) noCgroups() {
	r.Helper()
	for range 200 {
		left, _ := filepath.Glob("/sys/fs/cgroup/*/kist-test-keeper/*")
		more, _ := filepath.Glob("/sys/fs/cgroup/kist-test-keeper/*")
		left = slices.DeleteFunc(append(left, more...), func(p string) bool {
			st, err := os.Stat(p)
			return err != nil || !st.IsDir()
		})
		if len(left) == 0 {
			for _, pattern := range []string{"/sys/fs/cgroup/*/kist-test-keeper", "/sys/fs/cgroup/kist-test-keeper"} {
				dirs, _ := filepath.Glob(pattern)
				for _, d := range dirs {
					_ = os.Remove(d) // another test may be using it
				}
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.Error("cgroups are left")
}

func TestRealContainer(t *testing.T) {
	r := newRealRig(t)
	q := r.container("sh", "-c", "echo $$; cat; exit 12")
	q.Stdin, q.StdinOnce = true, true
	conn := r.attach(task.AttachRequest{ID: q.ID, Stdin: true, Stdout: true})
	r.launch(q)
	io.WriteString(conn, "through\n")
	conn.CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "1\nthrough\n" {
		t.Errorf("got %q, %v", b, err)
	}
	if x := r.exit(q.ID, ""); x.Code != 12 {
		t.Errorf("exit %+v", x)
	}
	for _, args := range [][]string{{"/missing"}, {"/tmp"}} {
		bad := r.container(args...)
		_, _, err := r.client.Run(r.ctx(), bad)
		if e := (*task.ExecError)(nil); !errors.As(err, &e) || e.Errno == 0 {
			t.Errorf("%v: %v", args, err)
		}
	}
	if err := r.client.Delete(r.ctx(), q.ID); err != nil {
		t.Fatal(err)
	}
	r.noCgroups()
}

func TestRealKeeperKilled(t *testing.T) {
	r := newRealRig(t)
	q := r.container("sh", "-c", `trap 'echo end; exit 21' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done`)
	r.launch(q)
	tty := r.container("sh", "-c", "read x; stty size; exit 22")
	tty.Spec.Process.Terminal, tty.Stdin = true, true
	r.launch(tty)
	paused := r.container("true")
	if _, _, err := r.client.Create(r.ctx(), paused); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	r.killKeeper()
	if x := r.exit(paused.ID, ""); x.Code == 0 { // by its parent-death signal, or because its line was hung up
		t.Errorf("a paused process became its program without its keeper: %+v", x)
	}
	out := r.attach(task.AttachRequest{ID: q.ID, ExecID: "e", Stdout: true})
	_, err := r.client.Exec(r.ctx(), task.ExecRequest{ID: q.ID, ExecID: "e", Process: &specs.Process{
		Args: []string{"sh", "-c", "echo inside as $PPID; exit 23"}, Cwd: "/", Env: []string{"PATH=/bin"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(out); err != nil || string(b) != "inside as 0\n" {
		t.Errorf("exec after the crash: %q, %v", b, err)
	}
	if x := r.exit(q.ID, "e"); x.Code != 23 {
		t.Errorf("exit %+v", x)
	}
	if err := r.client.Resize(r.ctx(), tty.ID, "", 20, 70); err != nil {
		t.Fatal(err)
	}
	conn := r.attach(task.AttachRequest{ID: tty.ID, Stdin: true, Stdout: true})
	io.WriteString(conn, "\n")
	readUntil(t, conn, "20 70")
	if x := r.exit(tty.ID, ""); x.Code != 22 {
		t.Errorf("exit %+v", x)
	}
	if err := r.client.Kill(r.ctx(), q.ID, "", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if x := r.exit(q.ID, ""); x.Code != 21 {
		t.Errorf("exit %+v", x)
	}
	if log := r.logged(q.ID); !strings.HasPrefix(log, "stdout:1\n") || !strings.HasSuffix(log, "stdout:end\n") {
		t.Errorf("log %q", log)
	}
	for _, id := range []string{q.ID, tty.ID, paused.ID} {
		if err := r.client.Delete(r.ctx(), id); err != nil {
			t.Error(err)
		}
	}
	r.reaped(r.exit(q.ID, "").PID, r.exit(tty.ID, "").PID, r.exit(paused.ID, "").PID)
	r.noCgroups()
}

func TestRealOutOfMemory(t *testing.T) {
	r := newRealRig(t)
	limit := int64(16 << 20)
	q := r.container("sh", "-c", "tail -c 200000000 /dev/zero; read x; exit 3")
	q.Stdin = true
	q.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	r.launch(q)
	oom := func() (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.other {
			if e.Kind == task.EventOOM && e.ID == q.ID {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(15 * time.Second); oom() == 0 && time.Now().Before(deadline); { // told while it runs
		time.Sleep(5 * time.Millisecond)
	}
	if err := r.client.CloseStdin(r.ctx(), q.ID, ""); err != nil {
		t.Error(err)
	}
	x := r.exit(q.ID, "")
	if n := oom(); n != 1 {
		t.Errorf("%d events", n)
	}
	if x.Code != 3 && x.Code != 137 {
		t.Errorf("exit %+v; log %q", x, r.logged(q.ID))
	}
	if !x.OOMKilled || x.MemoryLimit != uint64(limit) || x.MemoryPeak == 0 {
		t.Errorf("exit %+v; log %q", x, r.logged(q.ID))
	}
	if err := r.client.Delete(r.ctx(), q.ID); err != nil {
		t.Error(err)
	}
	r.noCgroups()
}

// TestManyContainers measures what an idle container costs.
func TestManyContainers(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	r := newRealRig(t)
	const n = 200
	keeper := r.keeperPID()
	first := r.container("sleep", "1000")
	r.launch(first)
	k0, c0 := private(t, keeper), private(t, os.Getpid())
	rss0 := rss(t, keeper)
	var ids []string
	begin := time.Now()
	for range n {
		q := r.container("sleep", "1000")
		r.launch(q)
		ids = append(ids, q.ID)
	}
	took := time.Since(begin)
	time.Sleep(trimAfter + 500*time.Millisecond)
	k1, c1 := private(t, keeper), private(t, os.Getpid())
	t.Logf("keeper: RSS %d kB with one container, %d kB with %d; private %d -> %d kB, %.1f kB for each",
		rss0, rss(t, keeper), n+1, k0, k1, float64(k1-k0)/n)
	t.Logf("client (with the test): private %d -> %d kB, %.1f kB for each; %.2f ms for a Run", c0, c1, float64(c1-c0)/n,
		float64(took.Microseconds())/n/1000)
	if each := (k1 - k0) / n; each > 15 && !raceDetector {
		t.Errorf("%d kB of the keeper's private memory for each idle container", each)
	}
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", keeper))
	if len(threads) > 24 {
		t.Errorf("the keeper has %d threads", len(threads))
	}
	r.killKeeper()
	begin = time.Now()
	if _, err := r.client.List(r.ctx()); err != nil {
		t.Fatal(err)
	}
	t.Logf("a new keeper had adopted them %v after it answered", time.Since(begin))
	for _, id := range append(ids, first.ID) {
		if err := r.client.Delete(r.ctx(), id); err != nil {
			t.Fatal(err)
		}
	}
	r.noCgroups()
	left := 0
	for range 100 { // Connections of the client's end a little later.
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.keeperPID()))
		if left = len(fds); left <= 30 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d descriptors are left in the keeper", left)
}

// private is a process's private memory in kB.
func private(t *testing.T, pid int) int {
	t.Helper()
	return procSum(t, pid, "smaps_rollup", "Private_Clean:", "Private_Dirty:")
}

func rss(t *testing.T, pid int) int {
	t.Helper()
	return procSum(t, pid, "status", "VmRSS:")
}

func procSum(t *testing.T, pid int, file string, names ...string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Skip("cannot be measured here: ", err)
	}
	sum := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 2 && slices.Contains(names, f[0]) {
			n, _ := strconv.Atoi(f[1])
			sum += n
		}
	}
	return sum
}
