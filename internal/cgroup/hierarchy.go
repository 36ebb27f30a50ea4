package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	systemd "github.com/coreos/go-systemd/v22/dbus"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// hierarchy is one mounted tree of control groups. Its root is held open, so that every later path is short and relative.
type hierarchy struct {
	path        string
	fd          int
	controllers []string // version 1: those mounted here, or "name=..." of a hierarchy without any
}

func (d *hierarchy) serves(controller string) bool { return slices.Contains(d.controllers, controller) }

func (d *hierarchy) has(rel string) bool {
	return unix.Faccessat(d.fd, rel, unix.F_OK, 0) == nil
}

func (d *hierarchy) rmdir(rel string) error {
	return unix.Unlinkat(d.fd, rel, unix.AT_REMOVEDIR)
}

// hierarchies are all that this host has mounted.
type hierarchies struct {
	v1      []*hierarchy
	unified *hierarchy // nil if version 2 is not mounted
	// makeDir makes a directory below a hierarchy's root; tests put files into it as the kernel does.
	makeDir func(fd int, rel string) error
	// proc is where /proc is.
	proc string
	// dial connects to systemd, for its driver.
	dial func(context.Context) (*systemd.Conn, error)
}

// system is the host's own, found once.
var system = sync.OnceValues(func() (*hierarchies, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("finding cgroup mounts: %w", err)
	}
	defer f.Close()
	return find(f)
})

// v2: every controller is on version 2. In a hybrid set-up version 2 is mounted too, but the controllers are on version 1.
func (h *hierarchies) v2() bool { return len(h.v1) == 0 }

func (h *hierarchies) all() []*hierarchy {
	if h.v2() {
		return []*hierarchy{h.unified}
	}
	return h.v1
}

// of is the version 1 hierarchy of a controller, or nil.
func (h *hierarchies) of(controller string) *hierarchy {
	for _, d := range h.v1 {
		if d.serves(controller) {
			return d
		}
	}
	return nil
}

// find reads a mountinfo file and opens the roots it tells of.
func find(mountinfo io.Reader) (*hierarchies, error) {
	h := &hierarchies{
		proc:    "/proc",
		dial:    systemd.NewWithContext,
		makeDir: func(fd int, rel string) error { return unix.Mkdirat(fd, rel, 0o755) },
	}
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, ok := parseMount(lines.Text())
		if !ok {
			continue
		}
		if err := h.add(m); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading mountinfo: %w", err)
	}
	if h.unified == nil && h.v2() {
		return nil, &fault.Error{
			Code: "no-cgroups", What: "cannot make control groups", Cause: "no cgroup filesystem is mounted",
			Try: "mount -t cgroup2 cgroup2 /sys/fs/cgroup", Class: errdefs.ErrFailedPrecondition,
		}
	}
	return h, nil
}

type cgroupMount struct {
	point       string
	v2          bool
	controllers []string
}

// parseMount understands one line of mountinfo, if it is a cgroup mount.
func parseMount(line string) (m cgroupMount, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 6 || len(right) < 3 {
		return m, false
	}
	m.point = unescape(left[4])
	switch right[0] {
	case "cgroup2":
		m.v2 = true
		return m, true
	case "cgroup":
		for o := range strings.SplitSeq(right[2], ",") {
			if isController(o) {
				m.controllers = append(m.controllers, o)
			}
		}
		return m, len(m.controllers) > 0
	}
	return m, false
}

// isController tells controllers from the other mount options. Named hierarchies (systemd's) hold no limits and are left to
// their owners.
func isController(option string) bool {
	switch option {
	case "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "rdma",
		"misc", "perf_event":
		return true
	}
	return false
}

// unescape undoes mountinfo's \040 for what would break its lines.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// add takes the first mount of each hierarchy: later ones are bind mounts of it, in containers for example.
func (h *hierarchies) add(m cgroupMount) error {
	if m.v2 && h.unified != nil || !m.v2 && h.of(m.controllers[0]) != nil {
		return nil
	}
	fd, err := unix.Open(m.point, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil // hidden below another mount
	}
	if err != nil {
		return fmt.Errorf("opening cgroup mount %s: %w", m.point, err)
	}
	d := &hierarchy{path: m.point, fd: fd, controllers: m.controllers}
	if m.v2 {
		h.unified = d
	} else {
		h.v1 = append(h.v1, d)
	}
	return nil
}

func (h *hierarchies) mkdir(d *hierarchy, rel string) error {
	if err := h.makeDir(d.fd, rel); err != nil {
		return err
	}
	if d.serves("cpuset") {
		return d.inheritCpuset(rel)
	}
	return nil
}

// mkdirParents makes what is missing above rel. It may meet another process that does the same, or that removes it again.
func (h *hierarchies) mkdirParents(d *hierarchy, rel string) error {
	for i := 0; i < len(rel); i++ {
		if rel[i] != '/' {
			continue
		}
		switch err := h.mkdir(d, rel[:i]); {
		case err == nil:
			d.markMade(rel[:i])
		case !errors.Is(err, unix.EEXIST):
			return err
		}
	}
	return nil
}

// inheritCpuset fills a cpuset from its parent, and that one from its own if need be: on version 1 an empty one takes no
// process, and whoever made the parent may not have known.
func (d *hierarchy) inheritCpuset(rel string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := d.read(rel, file)
		if err != nil {
			return err
		}
		if strings.TrimSpace(own) != "" {
			continue
		}
		up := path.Dir(rel)
		if up != "." {
			if err := d.inheritCpuset(up); err != nil {
				return err
			}
		}
		parent, err := d.read(up, file)
		if err != nil {
			return err
		}
		if err := d.write(rel, file, strings.TrimSpace(parent)); err != nil {
			return err
		}
	}
	return nil
}
