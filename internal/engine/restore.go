package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/moby/api/types/mount"

	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/task"
)

// restore makes the world fit the rows after a stop, a crash or a reboot:
//
//   - a row that says running, and a task that runs: it runs, and is watched again;
//   - a row that says running, and a task that has ended: its exit comes as an event, as if it had ended now;
//   - a row that says running, and no task: it ended with the machine;
//   - a task, a root filesystem or a directory without a row: a half-made or half-removed container, cleared away.
//
// Restart policies are applied last.
func (e *Engine) restore(ctx context.Context) error {
	rows, err := e.ledger.all()
	if err != nil {
		return err
	}
	tasks, err := e.tasksHeld(ctx)
	if err != nil {
		return err
	}
	for _, c := range rows {
		if err := e.index.add(c); err != nil {
			return fmt.Errorf("rows of containers: %w", err)
		}
	}
	var running []network.Held
	for _, c := range rows {
		held, err := e.revive(ctx, c, tasks[c.id])
		if err != nil {
			return fmt.Errorf("restore container %s: %w", c.id, err)
		}
		if held != nil {
			running = append(running, *held)
		}
	}
	if err := e.networks.Restore(ctx, running); err != nil {
		return fmt.Errorf("restore networks: %w", err)
	}
	if err := e.sweep(ctx, tasks); err != nil {
		return err
	}
	for _, c := range e.index.all() {
		e.reapply(c)
	}
	return nil
}

func (e *Engine) tasksHeld(ctx context.Context) (map[string]task.Status, error) {
	list, err := e.tasks.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the keeper: %w", err)
	}
	tasks := make(map[string]task.Status, len(list))
	for _, t := range list {
		tasks[t.ID] = t
	}
	return tasks, nil
}

// revive brings one row in line with its task; it returns the wiring of one that runs.
func (e *Engine) revive(ctx context.Context, c *container, t task.Status) (_ *network.Held, err error) {
	d, st := c.look()
	for i := range d.Mounts {
		if m := &d.Mounts[i]; m.Type == mount.TypeVolume {
			if err := e.cfg.Volumes.Use(m.Name, c.id); err != nil {
				slog.Warn("volume of container", "id", c.id, "volume", m.Name, "error", err)
			} else if st.Phase.alive() && t.ID != "" {
				if _, err := e.cfg.Volumes.Mount(ctx, m.Name, c.id); err != nil {
					slog.Warn("volume of container", "id", c.id, "volume", m.Name, "error", err)
				}
			}
		}
	}
	switch {
	case st.Phase == removing:
		return nil, e.dismantle(ctx, c, true, st.ExitCode)
	case st.Phase.alive() && t.ID != "":
		// An exit that happened meanwhile comes as an event, for which the row must say running.
		e.watch(c)
		sockets, err := e.tasks.Sockets(c.id)
		if err != nil {
			return nil, err
		}
		return &network.Held{
			ContainerID: c.id, Name: d.Name, Networks: st.Networks, Ports: st.Ports, PID: st.PID, Hostname: d.Config.Hostname,
			Sockets: sockets, Servers: d.HostConfig.DNS, Restarts: !d.HostConfig.RestartPolicy.IsNone(),
		}, nil
	case st.Phase.alive():
		return nil, e.lost(ctx, c)
	case t.ID != "": // Its start had not been acknowledged to anybody, and its wiring is not known.
		err = e.tasks.Delete(ctx, c.id)
	}
	if left := e.unmountAll(d); left != nil { // What a start that was cut short has mounted.
		slog.Warn("something of a container that does not run stays mounted", "id", c.id, "error", left)
	}
	return nil, err
}

// lost notes the end of a container that ended without a record: with the machine.
func (e *Engine) lost(ctx context.Context, c *container) error {
	if c.def.HostConfig.AutoRemove {
		if _, err := c.enter(exited, nil); err != nil {
			return err
		}
		return e.discard(ctx, c, 255)
	}
	st, err := c.enter(exited, func(s *state) {
		s.PID, s.ExitCode, s.Cgroup, s.Networks, s.Ports = 0, 255, "", nil, nil
		s.Error = "its exit status is unknown: nobody was there when it ended"
		s.End = lostEnding(s.Error + "; this machine went down, or kist's keeper and daemon both did")
		s.FinishedAt = time.Now().UTC()
	})
	if err != nil {
		return err
	}
	return e.ledger.note(c.def, st)
}

// sweep clears away what has no row.
func (e *Engine) sweep(ctx context.Context, tasks map[string]task.Status) error {
	var errs []error
	for id, t := range tasks {
		if e.index.get(id) == nil {
			if t.Exit != nil {
				e.departed.add(id, t.Exit.Code)
			}
			errs = append(errs, e.tasks.Delete(ctx, id))
		}
	}
	roots, err := e.cfg.Layers.Prepared()
	errs = append(errs, err)
	for _, id := range roots {
		if e.index.get(ownerOf(id)) == nil {
			errs = append(errs, e.cfg.Layers.Remove(ctx, id))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clear up: %w", err)
	}
	homes := filepath.Join(e.cfg.DataRoot, "containers")
	if err := e.sweepDir(homes, os.RemoveAll); err != nil {
		return err
	}
	sys.Spread(homes)
	if err := e.sweepDir(filepath.Join(e.cfg.ExecRoot, "images"), unmountImages); err != nil {
		return err
	}
	if err := e.cfg.Volumes.Settle(); err != nil {
		slog.Warn("a volume that nobody uses stays mounted", "error", err)
	}
	return e.sweepDir(filepath.Join(e.cfg.ExecRoot, "shm"), unmountShm)
}

// sweepDir removes the entries that are not named by a container.
func (e *Engine) sweepDir(dir string, remove func(string) error) error {
	if err := os.MkdirAll(dir, 0o710); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if e.index.get(entry.Name()) != nil {
			continue
		}
		if err := remove(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("clear up: %w", err)
		}
	}
	return nil
}

// reapply has a container that does not run started by its restart policy.
func (e *Engine) reapply(c *container) {
	d, st := c.look()
	if st.Phase != restarting && (st.Phase != exited || !wantsRevival(d.HostConfig.RestartPolicy, st)) {
		return
	}
	if st.Phase == exited {
		if _, err := c.enter(restarting, nil); err != nil {
			return
		}
	}
	e.restartLater(c, goodRun, st.Restarts)
}
