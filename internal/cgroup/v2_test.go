package cgroup

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fakeV2 is a directory that stands in for a cgroup2 mount: a new group gets the files that the kernel would give it, as
// far as a test lists them.
func fakeV2(t *testing.T, files map[string]string) *hierarchies {
	t.Helper()
	root := t.TempDir()
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	common := map[string]string{"cgroup.controllers": "cpu memory pids io\n", "cgroup.subtree_control": "", "cgroup.procs": ""}
	fill := func(dir string, sets ...map[string]string) error {
		for _, set := range sets {
			for name, content := range set {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := fill(root, common); err != nil {
		t.Fatal(err)
	}
	return &hierarchies{
		unified: &hierarchy{path: root, fd: fd},
		proc:    "/proc",
		makeDir: func(fd int, rel string) error {
			if err := unix.Mkdirat(fd, rel, 0o755); err != nil {
				return err
			}
			return fill(filepath.Join(root, rel), common, files)
		},
	}
}

func contents(t *testing.T, g *Group) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(g.Dir("memory"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(g.Dir("memory"), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 && !strings.HasPrefix(e.Name(), "cgroup.") {
			out[e.Name()] = string(b)
		}
	}
	return out
}

// none are files that start empty.
func none(names ...string) map[string]string {
	out := map[string]string{}
	for _, n := range names {
		out[n] = ""
	}
	return out
}

func TestV2Limits(t *testing.T) {
	dev := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{
			Limit: ptr(int64(64 << 20)), Swap: ptr(int64(96 << 20)), Reservation: ptr(int64(32 << 20)), Swappiness: ptr(uint64(5)),
			DisableOOMKiller: ptr(true), KernelTCP: ptr(int64(1 << 20)),
		},
		CPU: &specs.LinuxCPU{
			Shares: ptr(uint64(1024)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Burst: ptr(uint64(10)), Cpus: "0-1", Mems: "0",
			Idle: ptr(int64(1)), RealtimePeriod: ptr(uint64(5)),
		},
		Pids: &specs.LinuxPids{Limit: ptr(int64(-1))},
		BlockIO: &specs.LinuxBlockIO{
			Weight:                ptr(uint16(500)),
			ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: 1000}},
		},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
		Network:        &specs.LinuxNetwork{ClassID: ptr(uint32(1))},
		Rdma:           map[string]specs.LinuxRdma{"mlx": {HcaHandles: ptr(uint32(3)), HcaObjects: ptr(uint32(4))}},
		Unified:        map[string]string{"memory.high": "1000"},
		Devices:        allowAll,
	}
	h := fakeV2(t, none("memory.max", "memory.swap.max", "memory.low", "memory.high", "memory.current", "cpu.weight", "cpu.max",
		"cpu.max.burst", "cpu.idle", "cpuset.cpus", "cpuset.mems", "pids.max", "pids.current", "io.weight", "io.max",
		"hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "rdma.max"))
	g, warnings, err := h.create(t.Context(), "/kist/c", r)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"memory.max": "67108864", "memory.swap.max": "33554432", "memory.low": "33554432", "memory.high": "1000",
		"cpu.weight": "39", "cpu.max": "50000 100000", "cpu.max.burst": "10", "cpu.idle": "1", "cpuset.cpus": "0-1", "cpuset.mems": "0",
		"pids.max": "max", "io.weight": "4950", "io.max": "8:16 rbps=1000", "hugetlb.2MB.max": "4194304", "hugetlb.2MB.rsvd.max": "4194304",
		"rdma.max": "mlx hca_handle=3 hca_object=4",
	}
	if d := cmp.Diff(want, contents(t, g)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{noKernelTCP, noSwappiness, noOOMControl, noRealtime, noNetwork}, warnings); d != "" {
		t.Error(d)
	}
	if tasks, dir := g.JoinFiles(); tasks != nil || dir != filepath.Join(h.unified.path, "kist/c") {
		t.Errorf("join %v %q", tasks, dir)
	}
}

func TestV2HostLacksControllers(t *testing.T) {
	g, warnings, err := fakeV2(t, nil).create(t.Context(), "/kist/c", &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(8 << 20)), Swap: ptr(int64(8 << 20))},
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(5)), Quota: ptr(int64(5000))},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(5))},
		BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(10))},
		Devices: allowAll,
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{noSwap, noMemory, noShares, noCFS, noPids, noWeight}, warnings); d != "" {
		t.Error(d)
	}
	// What is missing was asked for from above.
	for _, dir := range []string{".", "kist"} {
		b, err := os.ReadFile(filepath.Join(g.h.unified.path, dir, "cgroup.subtree_control"))
		if err != nil || !strings.HasPrefix(string(b), "+") {
			t.Errorf("%s: %q, %v", dir, b, err)
		}
	}
}

func TestV2Refused(t *testing.T) {
	for name, r := range map[string]*specs.LinuxResources{
		"swap below memory":   {Memory: &specs.LinuxMemory{Limit: ptr(int64(10)), Swap: ptr(int64(5))}},
		"swap without memory": {Memory: &specs.LinuxMemory{Swap: ptr(int64(5))}},
		"unified path":        {Unified: map[string]string{"../x": "1"}},
		"unified procs":       {Unified: map[string]string{"cgroup.procs": "1"}},
	} {
		if _, _, err := fakeV2(t, nil).create(t.Context(), "/kist/c", r); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{"", "/", "..", "a:b", "a:b:c/d", "x:y:z", "a--b.slice:p:n", "a.slice:p:"} {
		if _, err := fakeV2(t, nil).load(path); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestV2Stats(t *testing.T) {
	h := fakeV2(t, map[string]string{
		"cpu.stat":       "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
		"memory.current": "4096\n", "memory.max": "max\n", "memory.peak": "8192\n", "memory.stat": "anon 100\nfile 200\n",
		"memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n",
		"pids.current":  "3\n", "pids.max": "max\n",
		"io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\nbad\n253:1\n",
	})
	h.proc = t.TempDir()
	for name, text := range map[string]string{
		"stat":    "cpu  1 2 3 4 5 6 7 100 0 0\ncpu0 1 2 3 4 5 6 7 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n",
		"meminfo": "MemTotal:        1000 kB\nMemFree: 1 kB\n",
	} {
		if err := os.WriteFile(filepath.Join(h.proc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g, _, err := h.create(t.Context(), "/kist/c", &specs.LinuxResources{Devices: allowAll})
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(s.Read) > time.Minute {
		t.Errorf("read at %v", s.Read)
	}
	s.Read = time.Time{}
	want := &container.StatsResponse{
		OSType: "linux",
		CPUStats: container.CPUStats{
			CPUUsage:    container.CPUUsage{TotalUsage: 3_000_000, UsageInUsermode: 2_000_000, UsageInKernelmode: 1_000_000},
			SystemUsage: 28 * tick, OnlineCPUs: 2,
			ThrottlingData: container.ThrottlingData{Periods: 5, ThrottledPeriods: 2, ThrottledTime: 7000},
		},
		MemoryStats: container.MemoryStats{
			Usage: 4096, MaxUsage: 8192, Failcnt: 2, Limit: 1000 << 10, Stats: map[string]uint64{"anon": 100, "file": 200},
		},
		PidsStats: container.PidsStats{Current: 3},
		BlkioStats: container.BlkioStats{IoServiceBytesRecursive: []container.BlkioStatEntry{
			{Major: 8, Op: "read", Value: 10}, {Major: 8, Op: "write", Value: 20},
		}},
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	if kills, peak, limit, err := g.OOMKills(); kills != 1 || peak != 8192 || limit != 0 || err != nil {
		t.Errorf("%d kills, peak %d, limit %d, %v", kills, peak, limit, err)
	}
}

func TestV2Features(t *testing.T) {
	f, err := fakeV2(t, nil).features()
	if err != nil || f.Version != 2 || !f.Memory || !f.Pids || f.Cpuset || f.OomKillDisable || !f.BlkioThrottle {
		t.Errorf("%+v, %v", f, err)
	}
}

// hostV2 is the host's cgroup2 mount alone, whatever controllers it has.
func hostV2(t *testing.T) *hierarchies {
	t.Helper()
	h, err := system()
	if err != nil || h.unified == nil {
		t.Skip("this host has no cgroup2 mount")
	}
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	return &hierarchies{unified: h.unified, proc: h.proc, makeDir: h.makeDir}
}

func createV2(t *testing.T, r *specs.LinuxResources) *Group {
	t.Helper()
	h := hostV2(t)
	parent := "kist-test-" + strconv.Itoa(os.Getpid()) + "-" + t.Name()
	g, _, err := h.create(t.Context(), "/"+parent+"/c", r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if err := h.unified.rmdir(parent); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestV2FreezeThawKill(t *testing.T) {
	g := createV2(t, &specs.LinuxResources{Devices: allowAll})
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
	if err := g.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.frozen(); frozen || err != nil {
		t.Errorf("Frozen is %v, %v", frozen, err)
	}
	if err := g.kill(ctx); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Processes(); len(pids) != 0 || err != nil {
		t.Errorf("left %v, %v", pids, err)
	}
	if l, err := g.h.load(g.Path()); err != nil || l.rel != g.rel {
		t.Errorf("load: %v", err)
	}
}

func TestV2RemoveNestedWithProcesses(t *testing.T) {
	g := createV2(t, &specs.LinuxResources{Devices: allowAll})
	inner := filepath.Join(g.Dir(""), "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	sleeper(t, g, "echo 0 > "+inner+"/cgroup.procs; sleep 60")
	if err := g.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g.h.unified.has(g.rel) {
		t.Error("the group is left")
	}
}

func TestV2Devices(t *testing.T) {
	if inUserNamespace() {
		t.Skip("devices cannot be restricted in a user namespace")
	}
	deny := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	open := append(deny, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "r"})
	// The first program allows /dev/mem; the one that replaces it does not.
	g := createV2(t, &specs.LinuxResources{
		Devices: append(open, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(1)), Access: "rwm"}),
	})
	if _, err := g.Update(t.Context(), &specs.LinuxResources{Devices: open}); err != nil {
		t.Fatal(err)
	}
	checkDevices(t, g)
}
