package testbed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
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
const patience = 2 * time.Minute

// hostRole makes a test binary play a host's first process instead of running tests.
const hostRole = "KIST_TESTBED_HOST"

// Main is called first in TestMain: it plays the roles that the testbed re-executes the test binary for.
func Main() {
	if os.Getenv(machineScript) != "" && os.Getpid() == 1 {
		machineMain()
	}
	if os.Getenv(hostRole) == "" {
		return
	}
	if err := hostMain(); err != nil {
		fmt.Fprintln(os.Stderr, "testbed host:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// hostMain is the first process of a host: it mounts what belongs to its namespaces, reaps orphans, and ends when its
// standard input does, which ends everything in its pid namespace.
func hostMain() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go reap()
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func reap() {
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil {
			time.Sleep(20 * time.Millisecond) // No child at present.
		}
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

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
		"PATH=" + Bin() + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
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

// Daemon is a running kistd.
type Daemon struct {
	h   *Host
	cmd *exec.Cmd
	log *os.File
}

// StartDaemon starts kistd with further flags and waits until its socket answers.
func (h *Host) StartDaemon(flags ...string) *Daemon {
	h.t.Helper()
	log, err := os.OpenFile(filepath.Join(h.Dir, "kistd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	d := &Daemon{h: h, log: log}
	err = h.Inside(func() error {
		d.cmd = exec.Command(filepath.Join(Bin(), "kistd"), flags...)
		d.cmd.Env = append(os.Environ(), h.Env()...)
		d.cmd.Stdout, d.cmd.Stderr = log, log
		d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return d.cmd.Start()
	})
	if err != nil {
		h.t.Fatalf("start kistd: %v", err)
	}
	h.t.Cleanup(func() {
		if h.t.Failed() && !h.told {
			h.told = true // All daemons of a host write the same one.
			h.t.Logf("kistd's log:\n%s", d.Log())
		}
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		_ = log.Close()
	})
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("unix", h.Socket()); err == nil {
			_ = conn.Close()
			return d
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatalf("kistd's socket does not answer:\n%s", d.Log())
	return nil
}

// Log is what the daemon has logged.
func (d *Daemon) Log() string {
	raw, _ := os.ReadFile(d.log.Name())
	return string(raw)
}

// PID is the daemon's process as the machine sees it.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Kill ends the daemon as a crash would, and waits for its end.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

// Stop ends the daemon as an administrator would.
func (d *Daemon) Stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}
