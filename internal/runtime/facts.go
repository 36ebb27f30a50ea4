package runtime

import (
	"bufio"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// facts are what a program depends on besides the specification: the kernel's and this process's abilities.
type facts struct {
	Caps, Bounding uint64
	// Ignored are the signals that this process was started with ignored, bit 0 for signal 1: the only ones that clone3's
	// CLONE_CLEAR_SIGHAND leaves as they are. Those from 32 on are among them: some programs ignore these for their children.
	Ignored     uint64
	LastCap     int
	Base        bool // an empty base mount namespace stands ready
	CgroupV2    bool // the unified hierarchy alone
	AppArmor    bool
	AppArmorDir bool // with attributes of its own, Linux 5.8
	SELinux     bool
	Kcore       bool
	// Limits are the hard limits by number that this process cannot exceed.
	Limits      map[int]uint64
	LayerOption bool // overlay takes its layers one by one, Linux 6.8
	// OOMScoreMin is the lowest oom_score_adj that this process may give.
	OOMScoreMin int
	// Hierarchies are the mount points of cgroup v1.
	Hierarchies []string
}

func readFacts() *facts {
	f := &facts{LastCap: len(capabilityNames) - 1, Limits: map[int]uint64{}}
	if n, err := strconv.Atoi(firstLine("/proc/sys/kernel/cap_last_cap")); err == nil {
		f.LastCap = min(n, 63)
	}
	for _, l := range lines("/proc/self/status") {
		k, v, _ := strings.Cut(l, ":")
		n, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		switch k {
		case "CapPrm":
			f.Caps = n
		case "CapBnd":
			f.Bounding = n
		case "SigIgn":
			f.Ignored = n
		}
	}
	f.AppArmor = firstLine("/sys/module/apparmor/parameters/enabled") == "Y"
	f.AppArmorDir = exists("/proc/self/attr/apparmor/exec")
	f.SELinux = exists("/sys/fs/selinux/enforce")
	f.Kcore = exists("/proc/kcore")
	f.LayerOption = sys.OverlayAppends()
	f.OOMScoreMin = -1000
	if n, err := strconv.Atoi(firstLine("/proc/self/oom_score_adj")); err == nil && f.Caps&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		f.OOMScoreMin = n
	}
	f.readLimits()
	f.readHierarchies()
	return f
}

func (f *facts) readLimits() {
	resource := f.Caps&(1<<unix.CAP_SYS_RESOURCE) != 0
	for n := range rlimitNames {
		var r unix.Rlimit
		if !resource && unix.Prlimit(0, n, nil, &r) == nil && r.Max != unix.RLIM_INFINITY {
			f.Limits[n] = r.Max
		}
	}
	if n, err := strconv.ParseUint(firstLine("/proc/sys/fs/nr_open"), 10, 64); err == nil {
		if old, ok := f.Limits[unix.RLIMIT_NOFILE]; !ok || n < old {
			f.Limits[unix.RLIMIT_NOFILE] = n
		}
	}
}

func (f *facts) readHierarchies() {
	var s unix.Statfs_t
	f.CgroupV2 = unix.Statfs("/sys/fs/cgroup", &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC
	for _, l := range lines("/proc/self/mountinfo") {
		head, tail, ok := strings.Cut(l, " - ")
		fields := strings.Fields(head)
		if ok && len(fields) > 4 && strings.HasPrefix(tail, "cgroup ") {
			f.Hierarchies = append(f.Hierarchies, fields[4])
		}
	}
}

// hardLimit is the highest hard limit that this process can give.
func (f *facts) hardLimit(n int) (uint64, bool) {
	m, ok := f.Limits[n]
	return m, ok
}

// hierarchy names the cgroup v1 hierarchy that a directory is in, as its mount point does.
func (f *facts) hierarchy(dir string) string {
	for _, h := range f.Hierarchies {
		if dir == h || strings.HasPrefix(dir, h+"/") {
			return path.Base(h)
		}
	}
	return ""
}

// aliases are further names of a hierarchy of several controllers.
func (f *facts) aliases(name string) []string {
	if !strings.Contains(name, ",") {
		return nil
	}
	return strings.Split(name, ",")
}

func exists(name string) bool { return unix.Access(name, unix.F_OK) == nil }

func firstLine(name string) string {
	l := lines(name)
	if len(l) == 0 {
		return ""
	}
	return strings.TrimSpace(l[0])
}

func lines(name string) []string {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		all = append(all, s.Text())
	}
	return all
}
