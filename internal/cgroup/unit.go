package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/kistdev/kist/internal/fault"
)

// unit is a systemd scope: the group of a container under the systemd driver.
type unit struct {
	slice, name string
	// dial connects to systemd.
	dial func(context.Context) (*systemd.Conn, error)
	// placeholder is the process that a scope must have to be started; it waits until its input is closed.
	placeholder *exec.Cmd
	hold        *os.File
}

// parseUnit understands "slice:prefix:name". An empty slice is system.slice, as for the other engines.
func parseUnit(s string) (*unit, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 || parts[2] == "" || strings.ContainsAny(s, "/\x00") {
		return nil, fmt.Errorf("cgroup path %q is not slice:prefix:name: %w", s, errdefs.ErrInvalidArgument)
	}
	u := &unit{slice: parts[0], name: parts[2]}
	if u.slice == "" {
		u.slice = "system.slice"
	}
	if !strings.HasSuffix(u.slice, ".slice") || strings.Contains(u.slice, "--") || strings.HasPrefix(u.slice, "-") && u.slice != "-.slice" {
		return nil, fmt.Errorf("%q is not the name of a systemd slice: %w", u.slice, errdefs.ErrInvalidArgument)
	}
	if strings.HasSuffix(u.name, ".slice") {
		return nil, fmt.Errorf("a container's unit is a scope, not %q: %w", u.name, errdefs.ErrInvalidArgument)
	}
	if parts[1] != "" {
		u.name = parts[1] + "-" + u.name
	}
	u.name = strings.TrimSuffix(u.name, ".scope") + ".scope"
	return u, nil
}

// path is where systemd puts the scope: "a-b.slice" lies in "a.slice".
func (u *unit) path() string {
	p := ""
	if u.slice != "-.slice" {
		name := strings.TrimSuffix(u.slice, ".slice")
		for i := 0; i <= len(name); i++ {
			if i == len(name) || name[i] == '-' {
				p = path.Join(p, name[:i]+".slice")
			}
		}
	}
	return path.Join(p, u.name)
}

// unitTime bounds what systemd may take for one unit.
const unitTime = 30 * time.Second

func noSystemd(err error) error {
	return &fault.Error{
		Code: "no-systemd", What: "cannot use the systemd cgroup driver", Cause: "systemd does not answer: " + err.Error(),
		Try: "use the cgroupfs driver (native.cgroupdriver=cgroupfs)", Class: errdefs.ErrFailedPrecondition, Err: err,
	}
}

// startUnit asks systemd for the scope. It must have a process from the start, and goes with its last one: a placeholder
// stays in it until Settle.
func (g *Group) startUnit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, unitTime)
	defer cancel()
	u := g.unit
	conn, err := u.dial(ctx)
	if err != nil {
		return noSystemd(err)
	}
	defer conn.Close()
	if err := u.startPlaceholder(); err != nil {
		return err
	}
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(ctx, u.name, "replace", u.properties(), done); err != nil {
		u.release()
		return fmt.Errorf("starting systemd unit %s: %w", u.name, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			u.release()
			return fmt.Errorf("starting systemd unit %s: its job ended as %q", u.name, result)
		}
	case <-ctx.Done():
		u.release()
		return fmt.Errorf("starting systemd unit %s: %w", u.name, ctx.Err())
	}
	return nil
}

func (u *unit) properties() []systemd.Property {
	property := func(name string, value any) systemd.Property {
		return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	return []systemd.Property{
		systemd.PropDescription("kist container " + u.name),
		systemd.PropSlice(u.slice),
		systemd.PropPids(uint32(u.placeholder.Process.Pid)),
		// The group below the scope is ours to write to, and systemd makes every controller's.
		property("Delegate", true),
		property("MemoryAccounting", true),
		property("CPUAccounting", true),
		property("TasksAccounting", true),
		property("IOAccounting", true),
		property("DefaultDependencies", false),
		property("CollectMode", "inactive-or-failed"),
	}
}

func (u *unit) startPlaceholder() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe for a systemd unit: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", "read _")
	cmd.Stdin = r
	cmd.Env = []string{}
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("starting the first process of a systemd unit: %w", err)
	}
	u.placeholder, u.hold = cmd, w
	return nil
}

// release ends the placeholder, if it still waits.
func (u *unit) release() {
	if u.placeholder == nil {
		return
	}
	u.hold.Close()
	_ = u.placeholder.Wait() // its exit status says nothing
	u.placeholder, u.hold = nil, nil
}

// stop takes the scope away if systemd has not done so with its last process.
func (u *unit) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, unitTime)
	defer cancel()
	conn, err := u.dial(ctx)
	if err != nil {
		return noSystemd(err)
	}
	defer conn.Close()
	done := make(chan string, 1)
	if _, err := conn.StopUnitContext(ctx, u.name, "replace", done); err != nil {
		if isGone(err) {
			return nil
		}
		return fmt.Errorf("stopping systemd unit %s: %w", u.name, err)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopping systemd unit %s: %w", u.name, ctx.Err())
	}
}

func isGone(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.NoSuchUnit"
}

// Settle is called once the container's process is in the group. Under the systemd driver it lets go of what has kept the
// group alive until then; under the other driver it does nothing.
func (g *Group) Settle() {
	if g.unit != nil {
		g.unit.release()
	}
}

// adopt takes the directories that systemd made, and makes those version 1 controllers' that it left out.
func (g *Group) adopt() {
	for _, d := range g.h.all() {
		if !slices.Contains(g.dirs, d) && d.has(g.rel) {
			g.dirs = append(g.dirs, d)
		}
	}
}
