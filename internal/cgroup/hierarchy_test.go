package cgroup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	line := func(point, kind, options string) string {
		return fmt.Sprintf("31 23 0:28 / %s rw,relatime shared:9 - %s none rw,%s\n", point, kind, options)
	}
	for _, c := range []struct {
		name, text string
		v2, fails  bool
		v1         int
	}{
		{name: "unified", text: line(dir, "cgroup2", "nsdelegate"), v2: true},
		{name: "legacy", text: line(dir, "cgroup", "cpu,cpuacct") + line(dir, "cgroup", "memory"), v1: 2},
		{name: "hybrid", text: line(dir, "cgroup2", "x") + line(dir, "cgroup", "name=systemd") + line(dir, "cgroup", "pids"), v1: 1},
		{name: "twice", text: line(dir, "cgroup", "pids") + line("/nowhere", "cgroup", "pids"), v1: 1},
		{name: "hidden", text: line("/nowhere", "cgroup", "pids") + line(dir, "cgroup", "pids"), v1: 1},
		{name: "none", text: "31 23 0:28 / / rw - ext4 /dev/x rw\n", fails: true},
		{name: "named only", text: line(dir, "cgroup", "name=systemd"), fails: true},
	} {
		h, err := find(strings.NewReader(c.text))
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err == nil && (h.v2() != c.v2 || len(h.v1) != c.v1) {
			t.Errorf("%s: v2 %v, %d hierarchies", c.name, h.v2(), len(h.v1))
		}
	}
}

func TestSharedHierarchyIsUsedOnce(t *testing.T) {
	both := &hierarchy{controllers: []string{"cpu", "cpuacct"}, path: "/c", fd: -1}
	g := &Group{h: &hierarchies{v1: []*hierarchy{both}}, rel: "x", dirs: []*hierarchy{both}}
	if g.dir("cpu") != both || g.dir("cpuacct") != both || g.dir("memory") != nil {
		t.Error("a hierarchy of two controllers was not found by both")
	}
	tasks, _ := g.JoinFiles()
	if d := cmp.Diff([]string{"/c/x/tasks"}, tasks); d != "" {
		t.Error(d)
	}
}

func TestSettingsV1(t *testing.T) {
	dev := specs.LinuxBlockIODevice{Major: 8, Minor: 1}
	list, err := settingsV1(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(-1)), Swap: ptr(int64(-1)), Swappiness: ptr(uint64(0)), DisableOOMKiller: ptr(true), KernelTCP: ptr(int64(9))},
		CPU:    &specs.LinuxCPU{Burst: ptr(uint64(1)), RealtimePeriod: ptr(uint64(2)), RealtimeRuntime: ptr(int64(3)), Idle: ptr(int64(1)), Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(0))},
		BlockIO: &specs.LinuxBlockIO{
			Weight: ptr(uint16(10)), LeafWeight: ptr(uint16(11)),
			WeightDevice:            []specs.LinuxWeightDevice{{LinuxBlockIODevice: dev, Weight: ptr(uint16(12)), LeafWeight: ptr(uint16(13))}},
			ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: 14}},
		},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "1GB", Limit: 5}},
		Network:        &specs.LinuxNetwork{ClassID: ptr(uint32(6)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 7}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range list {
		got = append(got, s.controller+" "+s.file+"="+s.value)
	}
	want := []string{
		"memory memory.limit_in_bytes=-1", "memory memory.memsw.limit_in_bytes=-1", "memory memory.kmem.tcp.limit_in_bytes=9",
		"memory memory.swappiness=0", "memory memory.oom_control=1", "cpu cpu.cfs_burst_us=1", "cpu cpu.rt_period_us=2",
		"cpu cpu.rt_runtime_us=3", "cpu cpu.idle=1", "cpuset cpuset.mems=0", "pids pids.max=max", "blkio blkio.weight=10",
		"blkio blkio.leaf_weight=11", "blkio blkio.weight_device=8:1 12", "blkio blkio.leaf_weight_device=8:1 13",
		"blkio blkio.throttle.write_iops_device=8:1 14", "hugetlb hugetlb.1GB.limit_in_bytes=5", "net_cls net_cls.classid=6",
		"net_prio net_prio.ifpriomap=eth0 7",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, r := range []*specs.LinuxResources{
		{Unified: map[string]string{"memory.high": "1"}},
		{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB/../x"}}},
	} {
		if _, err := settingsV1(r); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

func TestMissingControllersAreWarnedOf(t *testing.T) {
	g := &Group{h: &hierarchies{v1: []*hierarchy{{controllers: []string{"freezer"}}}}, rel: "x"}
	list, err := settingsV1(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(5)), Swap: ptr(int64(5))}, Pids: &specs.LinuxPids{Limit: ptr(int64(5))},
	})
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := g.apply(list)
	if d := cmp.Diff([]string{noMemory, noSwap, noPids}, warnings); d != "" || err != nil {
		t.Error(err, d)
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add("31 23 0:28 / /sys rw - cgroup2 c rw")
	f.Add("32 31 0:29 / /sys/fs/cgroup/cpu\\040x rw,relatime - cgroup cgroup rw,cpu,name=x")
	f.Add(" - - \\")
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := parseMount(line)
		if ok && !m.v2 && len(m.controllers) == 0 {
			t.Errorf("%q is a hierarchy without controllers", line)
		}
	})
}

func FuzzTables(f *testing.F) {
	f.Add("anon 5\nfile x\n\n", "8:0 Read 5\nTotal 7\n")
	f.Fuzz(func(_ *testing.T, table, blkio string) {
		parseTable(table)
		parseBlkio(blkio)
	})
}
