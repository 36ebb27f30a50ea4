package cgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// freezeTime bounds Freeze where the caller's context does not: a process that sits in the kernel does not stand still.
const freezeTime = 10 * time.Second

// Freeze stops all processes, and returns when they stand still.
func (g *Group) Freeze(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, freezeTime)
	defer cancel()
	if g.h.v2() {
		return g.freezeV2(ctx, "1")
	}
	if err := g.use("freezer"); err != nil {
		return err
	}
	d := g.dir("freezer")
	if err := d.write(g.rel, "freezer.state", "FROZEN"); err != nil {
		return err
	}
	if err := g.poll(ctx, func() (bool, error) { return g.frozenV1(d) }); err != nil {
		// Half a container that stands still is worse than none.
		return errors.Join(err, d.write(g.rel, "freezer.state", "THAWED"))
	}
	return nil
}

// frozenV1 collects what is not in the freezer yet, which may have been forked while the rest was moved, and tells whether
// all stands still. Writing the state again helps a freeze along that met a process in a fork.
func (g *Group) frozenV1(d *hierarchy) (bool, error) {
	moved, err := g.gather(d)
	if err != nil {
		return false, err
	}
	state, err := d.read(g.rel, "freezer.state")
	if err != nil {
		return false, err
	}
	switch strings.TrimSpace(state) {
	case "FROZEN":
		return moved == 0, nil
	case "FREEZING":
		return false, d.write(g.rel, "freezer.state", "FROZEN")
	}
	return false, fmt.Errorf("cgroup %s was thawed while it froze: %w", g.path, errdefs.ErrAborted)
}

// Thaw lets them go on.
func (g *Group) Thaw(ctx context.Context) error {
	if g.h.v2() {
		return g.freezeV2(ctx, "0")
	}
	d := g.dir("freezer")
	if d == nil {
		return nil // never frozen
	}
	if err := d.write(g.rel, "freezer.state", "THAWED"); err != nil && !absent(err) {
		return err
	}
	return nil
}

func (g *Group) freezeV2(ctx context.Context, state string) error {
	d := g.h.unified
	if err := d.write(g.rel, "cgroup.freeze", state); err != nil {
		if absent(err) && d.has(g.rel) {
			return fmt.Errorf("this kernel cannot freeze cgroups (it needs Linux 5.2): %w: %w", err, errdefs.ErrNotImplemented)
		}
		return err
	}
	err := g.poll(ctx, func() (bool, error) {
		events, err := d.table(g.rel, "cgroup.events")
		return strconv.FormatUint(events["frozen"], 10) == state, err
	})
	if err != nil && state == "1" {
		return errors.Join(err, d.write(g.rel, "cgroup.freeze", "0"))
	}
	return err
}

// use gives a living group a directory in a further version 1 hierarchy and moves its processes there.
func (g *Group) use(controller string) error {
	if g.dir(controller) != nil {
		return nil
	}
	d := g.h.of(controller)
	if d == nil {
		return fmt.Errorf("cgroup controller %s is not mounted: %w", controller, errdefs.ErrNotImplemented)
	}
	if err := g.make(d); err != nil {
		return err
	}
	for {
		moved, err := g.gather(d)
		if err != nil || moved == 0 {
			return err
		}
	}
}

// gather moves the group's processes that are not in d yet.
func (g *Group) gather(d *hierarchy) (moved int, err error) {
	all, err := g.Processes()
	if err != nil {
		return 0, err
	}
	var there []int
	if err := d.walk(g.rel, func(rel string) error {
		pids, err := d.processes(rel)
		there = append(there, pids...)
		return err
	}); err != nil {
		return 0, err
	}
	for _, pid := range all {
		if slices.Contains(there, pid) {
			continue
		}
		err := d.write(g.rel, "cgroup.procs", strconv.Itoa(pid))
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return moved, err
		}
		moved++
	}
	return moved, nil
}
