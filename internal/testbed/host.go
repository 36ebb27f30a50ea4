package testbed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds each command of Run and Try: one that hangs is a failure with a name, not a test run that never ends.
const patience = 4 * time.Minute

// Host is a host of a test's own: network, pid and mount namespaces. Everything started in it ends with it.
type Host struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.Closer
	// Dir is a directory for the host's files, removed with it.
	Dir string
	// run is what /run is on a real host: a directory in memory.
	run string
	// cgroup is the parent of the containers' cgroups.
	cgroup string
	told   bool // the daemons' log was shown
	guard  *guard
}

// NewHost makes a host. Without root the test is skipped.
func NewHost(t testing.TB) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: a host of its own needs root")
	}
	dir, err := os.MkdirTemp("", "kist-host-") // Not t.TempDir: its names are too long for a unix socket.
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("/dev/shm", "kist-host-")
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{t: t, Dir: dir, run: run}
	// An empty configuration: podman wants the file that DOCKER_CONFIG names to be there.
	if err := os.Mkdir(filepath.Join(dir, "docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "docker", "config.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := plugIn(filepath.Join(dir, "docker", "cli-plugins")); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(filepath.Join(dir, "data")))
	h.cgroup = "/kist-" + hex.EncodeToString(sum[:3]) // As kistd names it for a data root that is not the default.
	t.Cleanup(h.close)
	h.boot()
	return h
}

// plugIn gives docker's command buildx and compose, where they have been built.
func plugIn(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"docker-buildx", "docker-compose"} {
		path := Tool(name)
		if path == "" {
			continue
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// boot starts the host's first process.
func (h *Host) boot() {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	h.cmd = exec.Command(self)
	h.cmd.Env = append(os.Environ(), hostRole+"=1")
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		Setsid:     true, // No Pdeathsig: it fires when the thread that started the process ends, not the program.
	}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatalf("start a host: %v", err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		h.t.Fatalf("the host did not come up: %v", err)
	}
	h.guard = h.guarded(guardPatience)
}

// halt ends all processes of the host.
func (h *Host) halt() {
	if h.cmd == nil || h.cmd.Process == nil {
		return
	}
	if h.guard != nil {
		h.guard.close()
		h.guard = nil
	}
	_ = h.stdin.Close()
	_ = h.cmd.Process.Kill() // The first process of a pid namespace takes the others with it.
	_ = h.cmd.Wait()
}

// Reboot is a machine that loses its power: what is in memory is gone, what is on the disk stays. Its daemons are to be
// killed before.
func (h *Host) Reboot() {
	h.t.Helper()
	h.halt()
	if err := h.removeCgroups(); err != nil {
		h.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(h.run, "*"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range files {
		if err := os.RemoveAll(f); err != nil {
			h.t.Fatal(err)
		}
	}
	h.boot()
}

// close ends all processes of the host and removes its files and cgroups.
func (h *Host) close() {
	h.halt()
	if err := h.removeCgroups(); err != nil {
		h.t.Errorf("leftover: %v", err)
	}
	for _, dir := range []string{h.run, h.Dir} {
		if err := os.RemoveAll(dir); err != nil {
			h.t.Errorf("leftover: %v", err)
		}
	}
}

// removeCgroups removes the containers' cgroups in all hierarchies. What is left when the processes have ended is empty.
func (h *Host) removeCgroups() error {
	dirs, err := filepath.Glob("/sys/fs/cgroup/*" + h.cgroup)
	if err != nil {
		return err
	}
	dirs = append(dirs, "/sys/fs/cgroup"+h.cgroup)
	var errs []error
	for _, top := range dirs {
		var all []string
		_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for i := len(all) - 1; i >= 0; i-- {
			errs = append(errs, removeCgroup(all[i]))
		}
	}
	return errors.Join(errs...)
}

func removeCgroup(dir string) error {
	var err error
	for range 100 {
		if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		time.Sleep(10 * time.Millisecond) // Exiting processes leave a cgroup a moment after they can be waited for.
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

// PID is the host's first process as seen from outside.
func (h *Host) PID() int { return h.cmd.Process.Pid }

// Cgroup is the path below which the host's containers have their cgroups.
func (h *Host) Cgroup() string { return h.cgroup }

// KillKeeper ends the host's keeper with SIGKILL.
func (h *Host) KillKeeper() error {
	pids, err := h.Processes("kist", "keeper")
	if err != nil {
		return err
	}
	if len(pids) != 1 {
		return fmt.Errorf("want one keeper, found %v", pids)
	}
	return syscall.Kill(pids[0], syscall.SIGKILL)
}

// Processes finds the host's processes whose command line begins with a program of that name and the given arguments, by
// their pids on the machine.
func (h *Host) Processes(program string, args ...string) ([]int, error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.PID()))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		ns, err := os.Readlink("/proc/" + e.Name() + "/ns/pid")
		if err != nil || ns != own {
			continue
		}
		raw, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil {
			continue
		}
		words := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
		if filepath.Base(words[0]) == program && len(words) > len(args) && slices.Equal(words[1:1+len(args)], args) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Env are the variables with which kist finds the host's own daemon, and start it where it is not running.
func (h *Host) Env() []string {
	return []string{
		"KIST_DATA_ROOT=" + filepath.Join(h.Dir, "data"),
		"KIST_EXEC_ROOT=" + h.run,
		"DOCKER_HOST=",
		"KIST_HOST=",
		"DOCKER_CONFIG=" + filepath.Join(h.Dir, "docker"),
		"HOME=" + h.Dir,
		// The clients that were built for the tests stand in where the machine has none.
		"PATH=" + Bin() + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + filepath.Join(Root(), "bin", "tools"),
	}
}

// Socket is the daemon's socket.
func (h *Host) Socket() string { return filepath.Join(h.run, "kist.sock") }

// Command is exec.Command inside the host.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	return h.CommandContext(context.Background(), name, args...)
}

// CommandContext is exec.CommandContext inside the host.
func (h *Host) CommandContext(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append(h.Enter(), append([]string{"--", name}, args...)...)...)
	cmd.Env = append(os.Environ(), h.Env()...)
	return cmd
}

// Enter are nsenter's arguments for this host.
func (h *Host) Enter() []string {
	return []string{"-t", strconv.Itoa(h.PID()), "-m", "-n", "-p", "-u"}
}

// Run runs a command inside the host and returns its output; failure ends the test.
func (h *Host) Run(name string, args ...string) string {
	h.t.Helper()
	out, err := h.Try(name, args...)
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run for commands that may fail: it returns standard output, and the error with what was written to standard error.
func (h *Host) Try(name string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("still running after %s: %w", patience, err)
	}
	if err != nil && errOut.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(errOut.String()))
	}
	return strings.TrimSuffix(out.String(), "\n"), err
}
