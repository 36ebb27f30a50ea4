package cgroup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hostV1 skips where the machine has no version 1 hierarchies that this process may write to.
func hostV1(t *testing.T) *hierarchies {
	t.Helper()
	h, err := system()
	if err != nil {
		t.Skip("no cgroups:", err)
	}
	if h.v2() {
		t.Skip("this host has no version 1 hierarchies")
	}
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	return h
}

// name is a group's path that no other test uses; what is left of it is removed at the end.
func name(t *testing.T) string {
	t.Helper()
	parent := "/kist-test-" + strconv.Itoa(os.Getpid()) + "-" + strings.ReplaceAll(t.Name(), "/", "-")
	t.Cleanup(func() {
		if err := Prune(parent); err != nil {
			t.Error(err)
		}
		if h, err := system(); err == nil {
			for _, d := range h.all() {
				if d.has(parent[1:]) {
					t.Errorf("%s%s is left", d.path, parent)
				}
			}
		}
	})
	return parent + "/c"
}

func ptr[T any](v T) *T { return &v }

func create(t *testing.T, r *specs.LinuxResources) *Group {
	t.Helper()
	g, warnings, err := Create(t.Context(), name(t), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Log("warning:", w)
	}
	t.Cleanup(func() {
		if err := g.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return g
}

// process is one that a test started; done is closed when it has ended and was waited for.
type process struct {
	pid  int
	done chan struct{}
}

// sleeper starts a process that joins the group as a container's first process does, and waits.
func sleeper(t *testing.T, g *Group, script string) process {
	t.Helper()
	tasks, dir := g.JoinFiles()
	if dir != "" {
		tasks = []string{dir + "/cgroup.procs"}
	}
	var join strings.Builder
	for _, f := range tasks {
		join.WriteString("echo 0 > " + f + "\n")
	}
	cmd := exec.Command("/bin/sh", "-ec", join.String()+"echo ready\n"+script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := process{pid: cmd.Process.Pid, done: make(chan struct{})}
	t.Cleanup(func() {
		_ = g.Thaw(context.Background()) // a frozen process does not die
		_ = cmd.Process.Kill()
		<-p.done
	})
	ready := make(chan error, 1)
	go func() {
		_, err := out.Read(make([]byte, 6))
		ready <- err
		_ = cmd.Wait() // however it ended
		close(p.done)
	}()
	if err := <-ready; err != nil {
		t.Fatal("the process did not join:", err)
	}
	return p
}

func fileOf(t *testing.T, g *Group, controller, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.Dir(controller), file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

var allowAll = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}

func TestV1Limits(t *testing.T) {
	hostV1(t)
	g := create(t, &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(128 << 20)), Reservation: ptr(int64(32 << 20))},
		CPU: &specs.LinuxCPU{
			Shares: ptr(uint64(512)), Period: ptr(uint64(50000)), Quota: ptr(int64(25000)), Cpus: "0",
		},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(33))},
		Devices: allowAll,
	})
	for _, c := range []struct{ controller, file, want string }{
		{"memory", "memory.limit_in_bytes", "67108864"},
		{"memory", "memory.memsw.limit_in_bytes", "134217728"},
		{"memory", "memory.soft_limit_in_bytes", "33554432"},
		{"cpu", "cpu.shares", "512"},
		{"cpu", "cpu.cfs_period_us", "50000"},
		{"cpu", "cpu.cfs_quota_us", "25000"},
		{"cpuset", "cpuset.cpus", "0"},
		{"pids", "pids.max", "33"},
	} {
		if got := fileOf(t, g, c.controller, c.file); got != c.want {
			t.Errorf("%s is %s, want %s", c.file, got, c.want)
		}
	}
	if fileOf(t, g, "cpuset", "cpuset.mems") == "" {
		t.Error("cpuset.mems was not inherited")
	}
	if g.Dir("devices") != "" {
		t.Error("a devices group was made for rules that allow all")
	}
	sleeper(t, g, "read x || sleep 60")
}

func TestV1UpdateRaisesAndLowersMemory(t *testing.T) {
	hostV1(t)
	set := func(limit, swap int64) *specs.LinuxResources {
		return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &swap}}
	}
	r := set(64<<20, 64<<20)
	r.Devices = allowAll
	g := create(t, r)
	for _, n := range []int64{256 << 20, 32 << 20} {
		if _, err := g.Update(t.Context(), set(n, n)); err != nil {
			t.Fatal(err)
		}
		if got := fileOf(t, g, "memory", "memory.limit_in_bytes"); got != strconv.FormatInt(n, 10) {
			t.Errorf("limit is %s, want %d", got, n)
		}
	}
}

func TestV1UpdateAddsController(t *testing.T) {
	hostV1(t)
	g := create(t, &specs.LinuxResources{Devices: allowAll})
	p := sleeper(t, g, "sleep 60 & sleep 60")
	if _, err := g.Update(t.Context(), &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(20000))}}); err != nil {
		t.Fatal(err)
	}
	if got := fileOf(t, g, "cpu", "cpu.cfs_quota_us"); got != "20000" {
		t.Errorf("quota is %s", got)
	}
	procs := strings.Fields(fileOf(t, g, "cpu", "cgroup.procs"))
	if !slices.Contains(procs, strconv.Itoa(p.pid)) {
		t.Errorf("process %d was not moved: %v", p.pid, procs)
	}
}

// waitForTwo waits until a script's background process is there as well.
func waitForTwo(t *testing.T, ctx context.Context, g *Group) {
	t.Helper()
	if err := g.poll(ctx, func() (bool, error) {
		pids, err := g.Processes()
		return len(pids) >= 2, err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestV1FreezeThawKill(t *testing.T) {
	hostV1(t)
	g := create(t, &specs.LinuxResources{Devices: allowAll})
	sleeper(t, g, "while :; do sleep 0.01; done & while :; do sleep 0.01; done")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	waitForTwo(t, ctx, g)
	if err := g.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.frozen(); !frozen || err != nil {
		t.Errorf("Frozen is %v, %v", frozen, err)
	}
	loaded, err := Load(g.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if frozen, _ := g.frozen(); frozen {
		t.Error("still frozen after Thaw")
	}
	if err := g.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if err := loaded.kill(ctx); err != nil {
		t.Fatal("killing a frozen group:", err)
	}
	if left, err := g.Processes(); len(left) != 0 || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestV1RemoveKillsAndRemovesNested(t *testing.T) {
	h := hostV1(t)
	g := create(t, &specs.LinuxResources{Devices: allowAll})
	nested := filepath.Join(g.Dir("memory"), "inner")
	if err := os.Mkdir(nested, 0o755); err != nil {
		t.Fatal(err)
	}
	sleeper(t, g, "echo $$ > "+nested+"/cgroup.procs; sleep 60")
	if err := g.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range h.v1 {
		if d.has(g.rel) {
			t.Errorf("%s/%s is left", d.path, g.rel)
		}
	}
	if _, err := Load(g.Path()); !errdefs.IsNotFound(err) {
		t.Errorf("Load of a removed group: %v", err)
	}
	if err := g.Remove(t.Context()); err != nil {
		t.Error("removing twice:", err)
	}
}

func TestV1Devices(t *testing.T) {
	hostV1(t)
	if inUserNamespace() {
		t.Skip("devices cannot be restricted in a user namespace")
	}
	deny := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	g := create(t, &specs.LinuxResources{Devices: append(deny,
		specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "r"})})
	checkDevices(t, g)
}

// checkDevices: /dev/null may be used, /dev/kmsg read and not written, /dev/mem made and not opened.
func checkDevices(t *testing.T, g *Group) {
	t.Helper()
	dir := t.TempDir()
	script := `cd ` + dir + `
: > /dev/null && echo null
mknod kmsg c 1 11 && (: < kmsg) && echo read
(: > kmsg) 2> /dev/null || echo no write
mknod mem c 1 1 && echo made
(: < mem) 2> /dev/null || echo no mem
mknod loop b 7 99 && (: < loop) 2> /dev/null || echo no loop
`
	tasks, v2 := g.JoinFiles()
	if v2 != "" {
		tasks = []string{v2 + "/cgroup.procs"}
	}
	for _, f := range tasks {
		script = "echo 0 > " + f + "\n" + script
	}
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := "null\nread\nno write\nmade\nno mem\nno loop\n"; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestV1StatsAndOOM(t *testing.T) {
	hostV1(t)
	g := create(t, &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(16 << 20)), Swap: ptr(int64(16 << 20))},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(50))},
		Devices: allowAll,
	})
	sleeper(t, g, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 60")
	var s *container.StatsResponse
	// The kernel counts a running process's time at its ticks.
	if err := g.poll(t.Context(), func() (_ bool, err error) {
		s, err = g.Stats()
		return err != nil || s.CPUStats.CPUUsage.TotalUsage > 0 && s.CPUStats.CPUUsage.PercpuUsage != nil, err
	}); err != nil {
		t.Fatal(err)
	}
	if s.MemoryStats.Usage == 0 || s.MemoryStats.Limit != 16<<20 || len(s.MemoryStats.Stats) < 10 {
		t.Errorf("memory: %+v", s.MemoryStats)
	}
	if s.CPUStats.CPUUsage.TotalUsage == 0 || len(s.CPUStats.CPUUsage.PercpuUsage) == 0 {
		t.Errorf("cpu: %+v", s.CPUStats)
	}
	if s.CPUStats.SystemUsage == 0 || s.CPUStats.OnlineCPUs == 0 {
		t.Errorf("system: %+v", s.CPUStats)
	}
	if s.PidsStats.Current == 0 || s.PidsStats.Limit != 50 {
		t.Errorf("pids: %+v", s.PidsStats)
	}
	eater := sleeper(t, g, "x=$(head -c 100000000 /dev/zero | tr '\\0' x)")
	<-eater.done
	kills, peak, limit, err := g.OOMKills()
	if err != nil || kills == 0 || limit != 16<<20 || peak == 0 || peak > limit {
		t.Errorf("OOM kills %d, peak %d, limit %d, %v", kills, peak, limit, err)
	}
}

func TestV1StaleGroupIsReplaced(t *testing.T) {
	hostV1(t)
	g := create(t, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(7))}, Devices: allowAll})
	again, _, err := Create(t.Context(), g.Path(), &specs.LinuxResources{Devices: allowAll})
	if err != nil {
		t.Fatal(err)
	}
	if got := fileOf(t, again, "pids", "pids.max"); got != "max" {
		t.Errorf("pids.max of the old group survived: %s", got)
	}
	sleeper(t, again, "sleep 60")
	if _, _, err := Create(t.Context(), g.Path(), nil); !errdefs.IsConflict(err) {
		t.Errorf("creating a group that is in use: %v", err)
	}
}

func TestV1BadLimit(t *testing.T) {
	h := hostV1(t)
	path := name(t)
	_, _, err := Create(t.Context(), path, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "9999"}, Devices: allowAll})
	if err == nil {
		t.Fatal("a cpuset of a processor that does not exist was taken")
	}
	for _, d := range h.v1 {
		if d.has(path[1:]) {
			t.Errorf("%s is left in %s", path, d.path)
		}
	}
}

func BenchmarkV1CreateRemove(b *testing.B) {
	h, err := system()
	if err != nil || h.v2() || os.Geteuid() != 0 {
		b.Skip("no writable version 1 hierarchies")
	}
	parent := "/kist-bench-" + strconv.Itoa(os.Getpid())
	defer func() { _ = Prune(parent) }()
	for _, c := range []struct {
		name  string
		rules []specs.LinuxDeviceCgroup
	}{{"devices", []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}, {"privileged", allowAll}} {
		b.Run(c.name, func(b *testing.B) {
			r := &specs.LinuxResources{Devices: c.rules}
			var removing time.Duration
			for range b.N {
				g, _, err := Create(b.Context(), parent+"/c", r)
				if err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				if err := g.Remove(b.Context()); err != nil {
					b.Fatal(err)
				}
				removing += time.Since(start)
			}
			b.ReportMetric(float64(removing.Microseconds())/float64(b.N), "us-removing/op")
		})
	}
}

func BenchmarkV1Load(b *testing.B) {
	h, err := system()
	if err != nil || h.v2() || os.Geteuid() != 0 {
		b.Skip("no writable version 1 hierarchies")
	}
	parent := "/kist-bench-" + strconv.Itoa(os.Getpid())
	g, _, err := Create(b.Context(), parent+"/c", &specs.LinuxResources{Devices: allowAll})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = g.Remove(context.Background())
		_ = Prune(parent)
	}()
	for b.Loop() {
		if _, err := Load(g.Path()); err != nil {
			b.Fatal(err)
		}
	}
}
