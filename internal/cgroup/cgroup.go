// Package cgroup places containers in control groups, on version 1, hybrid and version 2 hierarchies, with the cgroupfs
// and the systemd driver, and reads and changes what they say.
//
// On version 1 every controller used costs a directory, so a group has only those that its limits need beside memory,
// pids and cpuacct; others (cpu, freezer) are added to a living group when Update or Freeze first needs them. Nothing
// here writes cgroup.procs before a process runs: that waits for the kernel's RCU, milliseconds long. A new process joins by
// itself (JoinFiles).
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Group is one container's place in the hierarchies: one directory on version 2, one for each needed controller on
// version 1. It is not safe for concurrent use; Load is cheap, so whoever needs one takes one.
type Group struct {
	h    *hierarchies
	path string       // as given to Create
	rel  string       // below the root of each hierarchy, without a leading slash
	dirs []*hierarchy // where the group has a directory
	unit *unit        // the systemd scope, if that driver made the group
}

// Create makes the group at path (cgroupfs: "/kist/ID"; systemd: "slice:prefix:name", as runc) with the limits of r.
// Only the controllers that r needs, and those that accounting needs, are used on version 1: each costs time.
// Warnings tell limits that this host cannot enforce.
func Create(ctx context.Context, path string, r *specs.LinuxResources) (g *Group, warnings []string, err error) {
	h, err := system()
	if err != nil {
		return nil, nil, err
	}
	return h.create(ctx, path, r)
}

// Load finds an existing group.
func Load(path string) (*Group, error) {
	h, err := system()
	if err != nil {
		return nil, err
	}
	return h.load(path)
}

func (h *hierarchies) group(name string) (*Group, error) {
	g := &Group{h: h, path: name}
	if strings.Contains(name, ":") {
		u, err := parseUnit(name)
		if err != nil {
			return nil, err
		}
		u.dial = h.dial
		g.unit, g.rel = u, u.path()
		return g, nil
	}
	rel := strings.TrimPrefix(path.Clean("/"+name), "/")
	if rel == "" || strings.ContainsRune(rel, 0) {
		return nil, fmt.Errorf("cgroup path %q names no group: %w", name, errdefs.ErrInvalidArgument)
	}
	g.rel = rel
	return g, nil
}

func (h *hierarchies) create(ctx context.Context, name string, r *specs.LinuxResources) (*Group, []string, error) {
	g, err := h.group(name)
	if err != nil {
		return nil, nil, err
	}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	if g.unit != nil {
		if err := g.startUnit(ctx); err != nil {
			return nil, nil, err
		}
	}
	warnings, err := g.setUp(r)
	if err != nil {
		// The failure is what matters; what cannot be removed now is found and removed at the next start.
		_ = g.Remove(context.WithoutCancel(ctx))
		return nil, nil, fmt.Errorf("creating cgroup %s: %w", name, err)
	}
	return g, warnings, nil
}

func (g *Group) setUp(r *specs.LinuxResources) ([]string, error) {
	if g.h.v2() {
		return g.setUpV2(r)
	}
	return g.setUpV1(r)
}

func (h *hierarchies) load(name string) (*Group, error) {
	g, err := h.group(name)
	if err != nil {
		return nil, err
	}
	for _, d := range h.all() {
		if d.has(g.rel) {
			g.dirs = append(g.dirs, d)
		}
	}
	if len(g.dirs) == 0 {
		return nil, fmt.Errorf("cgroup %s: %w", name, errdefs.ErrNotFound)
	}
	return g, nil
}

// JoinFiles returns, for version 1, the paths of the "tasks" files into which a new process writes "0" to join; for
// version 2 it returns the directory whose descriptor is given to clone3 (CLONE_INTO_CGROUP).
func (g *Group) JoinFiles() (tasks []string, v2dir string) {
	if g.h.v2() {
		return nil, path.Join(g.h.unified.path, g.rel)
	}
	tasks = make([]string, 0, len(g.dirs))
	for _, d := range g.dirs {
		tasks = append(tasks, d.path+"/"+g.rel+"/tasks")
	}
	return tasks, ""
}

// Path is what Load takes.
func (g *Group) Path() string { return g.path }

// Dir is the directory of the group in the hierarchy of a controller ("memory"; on version 2 any name), or empty.
func (g *Group) Dir(controller string) string {
	d := g.dir(controller)
	if d == nil {
		return ""
	}
	return path.Join(d.path, g.rel)
}

// dir is the hierarchy of a controller if the group has a directory there.
func (g *Group) dir(controller string) *hierarchy {
	for _, d := range g.dirs {
		if d == g.h.unified && g.h.v2() || d.serves(controller) {
			return d
		}
	}
	return nil
}

// makeTries is how often parents may be taken away again, with the last of their other groups, before they are used.
const makeTries = 10

// make makes the group's directory in d. One that a crash left behind is taken away first, if nothing lives in it.
func (g *Group) make(d *hierarchy) error {
	err := g.h.mkdir(d, g.rel)
	for range makeTries {
		if !errors.Is(err, unix.ENOENT) {
			break
		}
		if err = g.h.mkdirParents(d, g.rel); err == nil {
			err = g.h.mkdir(d, g.rel)
		}
	}
	if errors.Is(err, unix.EEXIST) {
		if err = d.rmdir(g.rel); err == nil || errors.Is(err, unix.ENOENT) {
			err = g.h.mkdir(d, g.rel)
		} else if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s/%s exists and has processes: %w", d.path, g.rel, errdefs.ErrConflict)
		}
	}
	if err != nil {
		return fmt.Errorf("mkdir %s/%s: %w", d.path, g.rel, err)
	}
	g.dirs = append(g.dirs, d)
	return nil
}
