package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func ptr[T any](v T) *T { return &v }

// TestConformance is what every executor does alike: a script, a change of the defaults, and what comes out.
func TestConformance(t *testing.T) {
	cases := []struct {
		name   string
		script string
		edit   func(b *Bundle)
		code   int
		out    string
	}{
		{"exit status", "echo hello; exit 3", nil, 3, "hello"},
		{"killed by a signal", "kill -KILL $$; sleep 1; (sh -c 'kill -9 $$'); echo $?", nil, 0, "137"},
		{"environment", "echo $A", func(b *Bundle) { b.Spec.Process.Env = append(b.Spec.Process.Env, "A=b c") }, 0, "b c"},
		{"working directory", "pwd", func(b *Bundle) { b.Spec.Process.Cwd = "/tmp" }, 0, "/tmp"},
		{"missing working directory is made", "pwd; stat -c '%a %u' .", func(b *Bundle) { b.Spec.Process.Cwd = "/srv/a/b" }, 0, "/srv/a/b\n755 0"},
		{"descriptors", "ls /proc/self/fd | wc -l", nil, 0, "4"},
		{"first process", "echo $$; hostname", nil, 0, "1\nkisttest"},
		{"domain name", "cat /proc/sys/kernel/domainname", func(b *Bundle) { b.Spec.Domainname = "example" }, 0, "example"},
		{"signals are unblocked and default", "grep -E 'Sig(Blk|Ign)|ShdPnd' /proc/self/status | grep -v 0000000000000000", nil, 1, ""},
		{"capabilities", "grep CapEff /proc/self/status", nil, 0, "CapEff:\t00000000a80425fb"},
		{"user", "id -u; id -g; id -G; grep -E 'CapEff|CapBnd' /proc/self/status", func(b *Bundle) {
			b.Spec.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{100, 7}}
		}, 0, "1000\n100\n100 7\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb"},
		{"ambient capabilities", "grep -E 'CapEff|CapAmb' /proc/self/status", func(b *Bundle) {
			c := b.Spec.Process.Capabilities
			c.Inheritable, c.Ambient = []string{"CAP_KILL"}, []string{"CAP_KILL"}
			b.Spec.Process.User = specs.User{UID: 1000, GID: 100}
		}, 0, "CapEff:\t0000000000000020\nCapAmb:\t0000000000000020"},
		{"umask", "umask", func(b *Bundle) { b.Spec.Process.User.Umask = ptr(uint32(0o27)) }, 0, "0027"},
		{"default umask", "umask", nil, 0, "0022"},
		{"rlimit", "ulimit -n; ulimit -Hn; ulimit -c", func(b *Bundle) {
			b.Spec.Process.Rlimits = []specs.POSIXRlimit{
				{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 128},
				{Type: "RLIMIT_CORE", Soft: 0, Hard: 0},
			}
		}, 0, "64\n128\n0"},
		{"few descriptors", "echo ok", func(b *Bundle) {
			b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 8, Hard: 8}}
		}, 0, "ok"},
		{"no new privileges", "grep NoNewPrivs /proc/self/status", func(b *Bundle) { b.Spec.Process.NoNewPrivileges = true }, 0, "NoNewPrivs:\t1"},
		{"oom score", "cat /proc/self/oom_score_adj", func(b *Bundle) { b.Spec.Process.OOMScoreAdj = ptr(321) }, 0, "321"},
		{"sysctl", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", func(b *Bundle) {
			b.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "99", "kernel.msgmax": "7777"}
		}, 0, "99\n7777"},
		{"loopback is up", "ip addr show lo | grep -c 127.0.0.1/8", nil, 0, "1"},
		{"devices", "for d in null zero full random urandom tty; do test -c /dev/$d || echo $d; done; echo x >/dev/null; head -c1 /dev/zero | wc -c; for l in ptmx fd stdin; do readlink /dev/$l; done", nil, 0, "1\npts/ptmx\n/proc/self/fd\n/proc/self/fd/0"},
		{"more devices", "stat -c '%F %t %T %a %u' /dev/net/tun /dev/my/disk; stat -c %F /opt/pipe", func(b *Bundle) {
			b.Spec.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200, FileMode: ptr(os.FileMode(0o600))},
				{Path: "/dev/my/disk", Type: "b", Major: 7, Minor: 3, UID: ptr(uint32(5)), GID: ptr(uint32(6))},
				{Path: "/opt/pipe", Type: "p"},
			}
			b.Spec.Linux.Devices = append(
				b.Spec.Linux.Devices, // of the host, as privileged containers list them
				specs.LinuxDevice{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2},
				specs.LinuxDevice{Path: "/dev/console", Type: "c", Major: 5, Minor: 1},
				specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
			)
		}, 0, "character special file a c8 600 0\nblock special file 7 3 666 5\nfifo"},
		{"masked", "cat /proc/keys /proc/timer_list | wc -c; for d in /sys/firmware /proc/acpi; do test ! -d $d || ls $d; done | wc -l", nil, 0, "0\n0"},
		{"mask cannot be written", "echo x 2>&1 >/sys/firmware/x", nil, 1, "/bin/sh: can't create /sys/firmware/x: Read-only file system"},
		{"read-only paths", "echo 1 2>&1 >/proc/sys/kernel/hostname", nil, 1, "/bin/sh: can't create /proc/sys/kernel/hostname: Read-only file system"},
		{"sysfs is read-only", "mkdir /sys/fs/cgroup/x 2>&1", nil, 1, "mkdir: can't create directory '/sys/fs/cgroup/x': Read-only file system"},
		{"read-only root", "touch /x 2>&1; touch /dev/shm/ok && echo ok", func(b *Bundle) { b.Spec.Root.Readonly = true }, 0, "touch: /x: Read-only file system\nok"},
		{"root can be written", "touch /x && echo ok", nil, 0, "ok"},
		{"shm size", "mount | grep -c '/dev/shm.*size=65536k'", nil, 0, "1"},
		{"no host in the mount table", "grep -c ' / / ' /proc/self/mountinfo", nil, 0, "1"},
		{"personality", "cat /proc/self/personality", func(b *Bundle) {
			b.Spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		}, 0, "00000008"},
		{"scheduler", "cat /proc/self/sched | grep policy | grep -o '[0-9]*$'", func(b *Bundle) {
			b.Spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5}
			b.Spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		}, 0, "3"},
	}
	executors(t, func(t *testing.T, r *Runtime) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) { want(t, sh(t, r, c.script, c.edit), c.code, c.out) })
		}
	})
}

func TestProgramThatCannotRun(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		for _, c := range []struct {
			name, arg  string
			step, path string
			errno      unix.Errno
			edit       func(b *Bundle)
		}{
			{"not in PATH", "nosuch", "lookup", "nosuch", unix.ENOENT, nil},
			{"missing", "/bin/nosuch", "execve", "/bin/nosuch", unix.ENOENT, nil},
			{"not executable in PATH", "passwd", "lookup", "passwd", unix.EACCES, nil},
			{"not executable", "/etc/passwd", "execve", "/etc/passwd", unix.EACCES, nil},
			{"directory", "/etc", "execve", "/etc", unix.EACCES, nil},
			{"empty", "", "lookup", "", unix.ENOENT, nil},
			{"format", "junk", "execve", "junk", unix.ENOEXEC, nil},
			{"loader", "/bin/script", "execve", "/bin/script", unix.ENOENT, nil},
			{"working directory", "sh", "chdir", "/etc/passwd", unix.ENOTDIR, func(b *Bundle) { b.Spec.Process.Cwd = "/etc/passwd" }},
			{"closed working directory", "sh", "chdir", "/closed", unix.EACCES, func(b *Bundle) {
				b.Spec.Process.Cwd = "/closed"
				b.Spec.Process.User = specs.User{UID: 9, GID: 9}
				b.Spec.Process.Capabilities = nil
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := bundle(t, c.arg)
				b.Spec.Process.Env = []string{"PATH=/bin:/etc"}
				low := b.Rootfs.Lower[0]
				must(t, os.WriteFile(filepath.Join(low, "bin/junk"), []byte("\x01\x02\x03"), 0o755))
				must(t, os.WriteFile(filepath.Join(low, "bin/script"), []byte("#!/no/such/loader\n"), 0o755))
				must(t, os.Mkdir(filepath.Join(low, "closed"), 0o700))
				if c.edit != nil {
					c.edit(&b)
				}
				_, err := tryRun(t, r, b)
				var s *StartError
				if !errors.As(err, &s) {
					t.Fatalf("got %v, want a StartError", err)
				}
				if s.Step != c.step || s.Path != c.path || !errors.Is(err, c.errno) {
					t.Errorf("got %v, want %s %s: %v", err, c.step, c.path, c.errno)
				}
			})
		}
	})
}

func TestSixtyLayers(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		o := sh(t, r, "ls /l | wc -l; cat /top", func(b *Bundle) {
			// Longer in all than the page that mount(2) takes.
			base := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
			for i := range 60 {
				d := filepath.Join(base, fmt.Sprint(i))
				must(t, os.MkdirAll(filepath.Join(d, "l"), 0o755))
				must(t, os.WriteFile(filepath.Join(d, "l", fmt.Sprint(i)), nil, 0o644))
				must(t, os.WriteFile(filepath.Join(d, "top"), []byte(fmt.Sprint(i)), 0o644))
				b.Rootfs.Lower = append(b.Rootfs.Lower, d)
			}
		})
		want(t, o, 0, "60\n0")
	})
}

// Go's runtime raises the limit of open files of this process. The container gets what the process was started with.
func TestOpenFilesLimitIsTheOriginal(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		// Go puts it back for the programs that it executes.
		out, err := exec.Command("/bin/sh", "-c", "ulimit -Sn; ulimit -Hn").Output()
		must(t, err)
		want(t, sh(t, r, "ulimit -Sn; ulimit -Hn", nil), 0, strings.TrimSpace(string(out)))
	})
}

func TestRootDirectory(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/sh", "-c", "touch /made; ls /proc/1/root/made")
		dir := layer(t)
		b.Rootfs, b.Spec.Root.Path = nil, dir
		want(t, run(t, r, b), 0, "/proc/1/root/made")
		if _, err := os.Stat(filepath.Join(dir, "made")); err != nil {
			t.Error(err)
		}
	})
}

func TestClampedLimitsWarn(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		f := *r.facts
		f.Limits = map[int]uint64{unix.RLIMIT_NPROC: 5000}
		f.OOMScoreMin = 10
		f.Caps &^= 1 << unix.CAP_SYS_RESOURCE
		r.facts = &f
		o := sh(t, r, "grep -o 'Max processes *[0-9]*' /proc/self/limits | grep -o '[0-9]*$'; cat /proc/self/oom_score_adj", func(b *Bundle) {
			b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NPROC", Soft: 9000, Hard: 9000}}
			b.Spec.Process.OOMScoreAdj = ptr(-5)
			c := b.Spec.Process.Capabilities
			c.Bounding = append([]string{"CAP_SYS_RESOURCE", "CAP_NO_SUCH"}, c.Bounding...)
		})
		want(t, o, 0, "5000\n10")
		if len(o.warnings) != 4 {
			t.Errorf("warnings %q, want four", o.warnings)
		}
	})
}

func TestCreatedContainerWaits(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/echo", "started")
		or, ow := pipe(t)
		p, err := r.Create(t.Context(), b, Stdio{Stdout: ow})
		must(t, err)
		ow.Close()
		group, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
		must(t, err)
		if !strings.Contains(string(group), b.Spec.Linux.CgroupsPath) {
			t.Errorf("not in its control group: %s", group)
		}
		// Another container's life is not held up by this one: the pipe ends with the other.
		want(t, sh(t, r, "echo other", nil), 0, "other")
		must(t, r.Start(t.Context(), p))
		if err := r.Start(t.Context(), p); err == nil {
			t.Error("started twice")
		}
		buf := make([]byte, 20)
		n, _ := or.Read(buf)
		if string(buf[:n]) != "started\n" {
			t.Errorf("output %q", buf[:n])
		}
		if c := wait(t, p); c != 0 {
			t.Errorf("exit code %d", c)
		}
		must(t, r.Delete(t.Context(), p))
		p.PIDFD.Close()
	})
}

func TestDeleteEndsCreatedContainer(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/echo", "never")
		p, err := r.Create(t.Context(), b, Stdio{})
		must(t, err)
		must(t, r.Delete(t.Context(), p))
		if c := wait(t, p); c == 0 {
			t.Error("it ran")
		}
		p.PIDFD.Close()
		if _, err := os.Stat("/sys/fs/cgroup/pids" + b.Spec.Linux.CgroupsPath); !os.IsNotExist(err) {
			t.Errorf("its control group is still there: %v", err)
		}
	})
}

func TestCancelledCreateLeavesNothing(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b := bundle(t, "/bin/echo", "never")
		if _, err := r.Create(ctx, b, Stdio{}); !errors.Is(err, context.Canceled) {
			t.Errorf("Create = %v, want it cancelled", err)
		}
		if _, err := os.Stat("/sys/fs/cgroup/pids" + b.Spec.Linux.CgroupsPath); !os.IsNotExist(err) {
			t.Errorf("its control group is still there: %v", err)
		}
	})
}
