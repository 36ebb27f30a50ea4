package cgroup

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestUnitPath(t *testing.T) {
	for in, want := range map[string]string{
		"system.slice:kist:abc":     "system.slice/kist-abc.scope",
		":kist:abc":                 "system.slice/kist-abc.scope",
		"a-b-c.slice:p:n":           "a.slice/a-b.slice/a-b-c.slice/p-n.scope",
		"-.slice:p:n":               "p-n.scope",
		"user.slice::already.scope": "user.slice/already.scope",
	} {
		u, err := parseUnit(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if got := u.path(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestNoSystemd(t *testing.T) {
	h := fakeV2(t, nil)
	h.dial = func(context.Context) (*systemd.Conn, error) { return nil, os.ErrNotExist }
	_, _, err := h.create(t.Context(), "a.slice:kist:c", nil)
	if !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), "cgroupfs") {
		t.Errorf("got %v", err)
	}
}

// fakeManager is as much of systemd as starts and stops scopes, in a cgroup2 mount.
type fakeManager struct {
	root    string
	conn    *dbus.Conn
	mu      sync.Mutex // guards what follows: the bus calls from goroutines of its own
	started []string
	stopped []string
}

type property struct {
	Name  string
	Value dbus.Variant
}

type auxiliary struct {
	Name       string
	Properties []property
}

func (m *fakeManager) StartTransientUnit(name, mode string, properties []property, _ []auxiliary) (dbus.ObjectPath, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := &unit{name: name}
	var pids []uint32
	delegated := false
	for _, p := range properties {
		switch p.Name {
		case "Slice":
			u.slice, _ = p.Value.Value().(string)
		case "PIDs":
			pids, _ = p.Value.Value().([]uint32)
		case "Delegate":
			delegated, _ = p.Value.Value().(bool)
		}
	}
	dir := filepath.Join(m.root, u.path())
	if len(pids) == 0 || !delegated || mode != "replace" {
		return "", dbus.MakeFailedError(errors.New("scope has no PIDs or is not delegated"))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", dbus.MakeFailedError(err)
	}
	for _, pid := range pids {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(int(pid))), 0o644); err != nil {
			return "", dbus.MakeFailedError(err)
		}
	}
	m.started = append(m.started, name)
	return m.job(name), nil
}

func (m *fakeManager) StopUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.started, name) {
		return "", dbus.NewError("org.freedesktop.systemd1.NoSuchUnit", []any{"no such unit"})
	}
	m.stopped = append(m.stopped, name)
	return m.job(name), nil
}

func (m *fakeManager) job(name string) dbus.ObjectPath {
	const path = dbus.ObjectPath("/org/freedesktop/systemd1/job/1")
	// The answer to the call goes out before the signal, as systemd's does.
	time.AfterFunc(20*time.Millisecond, func() {
		_ = m.conn.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved", uint32(1), path, name, "done")
	})
	return path
}

// bus starts a message bus of its own and returns its address.
func bus(t *testing.T) string {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	cmd := exec.Command(daemon, "--session", "--nofork", "--print-address", "--address=unix:dir="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Skip("dbus-daemon does not start here")
	}
	return lines.Text()
}

func TestSystemdScope(t *testing.T) {
	h := hostV2(t)
	address := bus(t)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m := &fakeManager{root: h.unified.path, conn: conn}
	if err := conn.Export(m, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	h.dial = func(context.Context) (*systemd.Conn, error) {
		return systemd.NewConnection(func() (*dbus.Conn, error) { return dbus.Connect(address) })
	}
	slice := "kisttest" + strconv.Itoa(os.Getpid()) + ".slice"
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	g, _, err := h.create(ctx, slice+":kist:c", &specs.LinuxResources{Devices: allowAll})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.unified.rmdir(slice); err != nil {
			t.Error(err)
		}
	})
	placeholder, err := g.Processes()
	if err != nil || len(placeholder) != 1 {
		t.Fatalf("processes %v, %v", placeholder, err)
	}
	p := sleeper(t, g, "exec sleep 60")
	g.Settle()
	if pids, err := g.Processes(); !slices.Equal(pids, []int{p.pid}) || err != nil {
		t.Errorf("processes %v, %v; want %d", pids, err, p.pid)
	}
	l, err := h.load(g.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	if h.unified.has(g.rel) || !slices.Equal(m.stopped, []string{"kist-c.scope"}) {
		t.Errorf("stopped %v", m.stopped)
	}
	m.started = nil
	m.mu.Unlock()
	if err := l.Remove(ctx); err != nil {
		t.Error("removing a unit that has gone:", err)
	}
}

// frozen tells whether the group was frozen.
func (g *Group) frozen() (bool, error) {
	if g.h.v2() {
		n, err := g.h.unified.number(g.rel, "cgroup.freeze")
		return n == 1, err
	}
	d := g.dir("freezer")
	if d == nil {
		return false, nil
	}
	s, err := d.read(g.rel, "freezer.state")
	if absent(err) {
		return false, nil
	}
	return strings.TrimSpace(s) != "THAWED", err
}
