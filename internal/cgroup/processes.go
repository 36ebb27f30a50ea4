package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Processes lists the pids of the host's pid namespace, those in groups below this one included.
func (g *Group) Processes() ([]int, error) {
	var out []int
	err := g.walk(g.first(), func(rel string) error {
		pids, err := g.first().processes(rel)
		out = append(out, pids...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing processes of cgroup %s: %w", g.path, err)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// first is the hierarchy that is asked for processes: those that every group has hold all of them.
func (g *Group) first() *hierarchy {
	for _, c := range accounting {
		if d := g.dir(c); d != nil {
			return d
		}
	}
	return g.dirs[0]
}

func (d *hierarchy) processes(rel string) ([]int, error) {
	s, err := d.read(rel, "cgroup.procs")
	switch {
	case absent(err):
		return nil, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		s, err = d.read(rel, "cgroup.threads") // a threaded group of version 2
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(s) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("%s/%s/cgroup.procs says %q: %w", d.path, rel, field, err)
		}
		if pid > 0 { // 0 is a process of another pid namespace
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// walk calls f for the group and all groups below it, deepest first. Groups that vanish meanwhile are passed over.
func (g *Group) walk(d *hierarchy, f func(rel string) error) error { return d.walk(g.rel, f) }

func (d *hierarchy) walk(rel string, f func(rel string) error) error {
	children, err := d.children(rel)
	if err != nil {
		return err
	}
	for _, name := range children {
		if err := d.walk(path.Join(rel, name), f); err != nil {
			return err
		}
	}
	return f(rel)
}

// children names the groups right below rel.
func (d *hierarchy) children(rel string) ([]string, error) {
	fd, err := unix.Openat(d.fd, rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s/%s: %w", d.path, rel, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	// A directory's link count is two more than the number of its own directories: usually there are none.
	if err := unix.Fstat(fd, &st); err == nil && st.Nlink == 2 {
		return nil, nil
	}
	return subdirectories(fd)
}

// kill ends all processes in the group.
func (g *Group) kill(ctx context.Context) error {
	if g.unit != nil {
		g.unit.release()
	}
	if g.h.v2() {
		err := g.h.unified.write(g.rel, "cgroup.kill", "1")
		if err == nil || absent(err) && !g.h.unified.has(g.rel) {
			return g.waitEmpty(ctx)
		}
	}
	return g.killEach(ctx)
}

// killEach signals processes one by one until there is none left. A frozen process dies only when it is thawed, and a group
// that forks faster than we kill is kept from forking.
func (g *Group) killEach(ctx context.Context) error {
	pause := 100 * time.Microsecond
	for round := 0; ; round++ {
		pids, err := g.Processes()
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("killing process %d of cgroup %s: %w", pid, g.path, err)
			}
		}
		if round == 0 {
			if err := g.Thaw(ctx); err != nil {
				return err
			}
		}
		if round == 5 {
			if err := g.forbidForks(); err != nil {
				return err
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("killing cgroup %s, %d processes left: %w", g.path, len(pids), err)
		}
		pause = min(2*pause, 20*time.Millisecond)
	}
}

func (g *Group) forbidForks() error {
	d := g.dir("pids")
	if d == nil {
		return nil
	}
	err := d.write(g.rel, "pids.max", "0")
	if absent(err) {
		return nil
	}
	return err
}

// waitEmpty waits for killed processes to be gone.
func (g *Group) waitEmpty(ctx context.Context) error {
	return g.poll(ctx, func() (bool, error) {
		pids, err := g.Processes()
		return len(pids) == 0, err
	})
}

// poll calls done until it says so, more and more seldom.
func (g *Group) poll(ctx context.Context, done func() (bool, error)) error {
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("waiting for cgroup %s: %w", g.path, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
