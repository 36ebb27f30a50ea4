package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machineScript is set in the environment of a machine's first process: the script that it runs.
const machineScript = "KIST_TESTBED_SCRIPT"

// umlModules is where Debian's User-Mode Linux has its modules.
const umlModules = "/usr/lib/uml/modules"

// machineDone is the line at the end of a script that went through.
const machineDone = "testbed machine: done"

// Machine is another kernel: User-Mode Linux, a Linux that runs as a process and has what the kernel of a test machine may
// lack: version 2 of cgroups with all controllers, and project quotas. It sees the machine's files, read-only; its /dev, /run
// and /mnt are its own.
type Machine struct {
	// Disk is a file that is its disk /dev/ubda; empty for none.
	Disk string
	// Modules are loaded, each after those it needs.
	Modules []string
}

// Run boots the machine, runs a shell script as root in it, with kist's programs in PATH, and returns what that printed. A
// command of the script that fails ends it, and the test.
func (m Machine) Run(t testing.TB, script string) string {
	t.Helper()
	out, _ := m.Measure(t, script)
	return out
}

// Measure is Run that also returns the memory that the machine had at most, in bytes.
func (m Machine) Measure(t testing.TB, script string) (out string, memory int64) {
	t.Helper()
	program, err := exec.LookPath("linux.uml")
	if err != nil {
		t.Skip("skip: User-Mode Linux is not installed (Debian's package user-mode-linux)")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "script")
	head := fmt.Sprintf("set -e\nexport PATH=%s:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run\n", Bin())
	if err := os.WriteFile(file, []byte(head+script+"\necho '"+machineDone+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"mem=768M", "rootfstype=hostfs", "root=/dev/root", "rootflags=/", "ro", "security=none", "quiet", "loglevel=1",
		"con=null", "con0=fd:0,fd:1", "init=" + self, machineScript + "=" + file, machineModules + "=" + strings.Join(m.Modules, ","),
	}
	if m.Disk != "" {
		args = append(args, "ubda="+m.Disk)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "TMPDIR=/dev/shm") // Its memory is a file, which it deletes at once.
	cmd.WaitDelay = time.Second
	raw, err := cmd.CombinedOutput()
	out = scriptOutput(t, raw, err)
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		memory = u.Maxrss << 10
	}
	return out, memory
}

// scriptOutput is what a machine has printed until it was switched off, with the lines' ends of a file. A script that did not come
// to its end fails the test.
func scriptOutput(t testing.TB, raw []byte, err error) string {
	t.Helper()
	out := strings.ReplaceAll(string(raw), "\r\n", "\n")
	if !strings.Contains(out, machineDone) {
		t.Fatalf("the machine's script did not end well (%v):\n%s", err, out)
	}
	return out
}

const machineModules = "KIST_TESTBED_MODULES"

// machineMain is a machine's first process. It never returns: the machine is switched off.
func machineMain() {
	err := machineBoot()
	if err == nil {
		cmd := exec.Command("/bin/sh", os.Getenv(machineScript))
		out := struct{ io.Writer }{os.Stdout} // A pipe before the console: commands shall not take it for somebody's terminal.
		cmd.Stdout, cmd.Stderr = out, out
		cmd.WaitDelay = time.Second // What the script has left behind may hold the pipe.
		err = cmd.Run()
	}
	if err != nil {
		fmt.Println("testbed machine:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func machineBoot() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"tmpfs", "/run"},
		{"tmpfs", "/mnt"},
		{"devpts", "/dev/pts"},
		{"tmpfs", "/dev/shm"},
		{"cgroup2", "/sys/fs/cgroup"},
	} {
		if strings.HasPrefix(m.at, "/dev/") {
			_ = os.MkdirAll(m.at, 0o755)
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && (m.at != "/dev" || !errors.Is(err, unix.EBUSY)) { // some kernels mount it
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	for name := range strings.SplitSeq(os.Getenv(machineModules), ",") {
		if name == "" {
			continue
		}
		if err := loadModule(name); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return loopbackUp()
}

// loadModule loads a module after those that modules.dep says it needs, the last of them first.
func loadModule(name string) error {
	dirs, err := filepath.Glob(umlModules + "/*")
	if err != nil || len(dirs) != 1 {
		return fmt.Errorf("want one version in %s, there are %v", umlModules, dirs)
	}
	deps, err := os.ReadFile(filepath.Join(dirs[0], "modules.dep"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(deps)) {
		file, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
		if filepath.Base(file) != name+".ko" {
			continue
		}
		all := append([]string{file}, strings.Fields(needs)...)
		for i := len(all) - 1; i >= 0; i-- {
			if err := insert(filepath.Join(dirs[0], all[i])); err != nil {
				return err
			}
		}
		return nil
	}
	return os.ErrNotExist
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}
