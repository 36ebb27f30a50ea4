package runtime

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// background starts a container that lives until the test ends.
func background(t testing.TB, r *Runtime, b Bundle) *Process {
	t.Helper()
	p, err := r.Create(t.Context(), b, Stdio{})
	must(t, err)
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(fdOf(p.PIDFD), unix.SIGKILL, nil, 0)
		wait(t, p)
		if err := r.Delete(t.Context(), p); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Error(err)
		}
		p.PIDFD.Close()
	})
	must(t, r.Start(t.Context(), p))
	return p
}

func execIn(t *testing.T, r *Runtime, target ExecTarget, p *specs.Process) (outcome, error) {
	t.Helper()
	or, ow := pipe(t)
	e, err := r.Exec(t.Context(), target, p, Stdio{Stdout: ow, Stderr: ow})
	ow.Close()
	if err != nil {
		return outcome{}, err
	}
	var out bytes.Buffer
	_, _ = io.Copy(&out, or)
	defer e.PIDFD.Close()
	return outcome{out: out.String(), code: wait(t, e), warnings: e.Warnings}, nil
}

func TestExec(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/sleep", "1000")
		b.Spec.Linux.Seccomp = denyMkdir()
		first := background(t, r, b)
		target := ExecTarget{PIDFD: first.PIDFD, PID: first.PID, Spec: b.Spec}
		process := func(script string) *specs.Process {
			p := *b.Spec.Process
			p.Args = []string{"sh", "-c", script}
			return &p
		}
		for _, c := range []struct {
			name, script string
			edit         func(*specs.Process, *ExecTarget)
			code         int
			out          string
		}{
			{"status", "exit 9", nil, 9, ""},
			{"namespaces", "hostname; cat /proc/1/comm; for n in mnt pid net ipc uts cgroup; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done", nil, 0, "kisttest\nsleep"},
			{"environment", "echo $X; pwd", func(p *specs.Process, _ *ExecTarget) { p.Env, p.Cwd = append(p.Env, "X=1"), "/tmp" }, 0, "1\n/tmp"},
			{"user", "id -u; grep CapEff /proc/self/status", func(p *specs.Process, _ *ExecTarget) { p.User = specs.User{UID: 12, GID: 13} }, 0, "12\nCapEff:\t0000000000000000"},
			{"descriptors", "ls /proc/self/fd | wc -l", nil, 0, "4"},
			{"confined", "mkdir /x 2>/dev/null || echo denied", nil, 0, "denied"},
			{"unconfined", "mkdir /x && echo made", func(_ *specs.Process, e *ExecTarget) { e.Unconfined = true }, 0, "made"},
			{"oom score", "cat /proc/self/oom_score_adj", func(p *specs.Process, _ *ExecTarget) { p.OOMScoreAdj = ptr(77) }, 0, "77"},
			{"processors", "grep -o 'Cpus_allowed_list.*' /proc/self/status", func(p *specs.Process, _ *ExecTarget) {
				p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-1", Final: "0"}
			}, 0, "Cpus_allowed_list:\t0"},
			{"traced container", "grep -c Seccomp: /proc/self/status", func(_ *specs.Process, e *ExecTarget) {
				// Not by shared memory, whatever the executor.
				spec, first := *e.Spec, *e.Spec.Process
				first.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_PTRACE"}}
				spec.Process, e.Spec = &first, &spec
			}, 0, "1"},
		} {
			t.Run(c.name, func(t *testing.T) {
				p, e := process(c.script), target
				if c.edit != nil {
					c.edit(p, &e)
				}
				o, err := execIn(t, r, e, p)
				must(t, err)
				want(t, o, c.code, c.out)
			})
		}
		t.Run("control group", func(t *testing.T) {
			p := process("read x")
			in, out := pipe(t)
			e, err := r.Exec(t.Context(), target, p, Stdio{Stdin: in})
			must(t, err)
			group, err := os.ReadFile("/proc/" + strconv.Itoa(e.PID) + "/cgroup")
			must(t, err)
			if !strings.Contains(string(group), b.Spec.Linux.CgroupsPath) {
				t.Errorf("in control groups %s", group)
			}
			out.Close()
			wait(t, e)
			e.PIDFD.Close()
		})
		t.Run("missing working directory", func(t *testing.T) {
			p := process("")
			p.Cwd = "/not/there"
			_, err := execIn(t, r, target, p)
			var x *StartError
			if !errors.As(err, &x) || x.Step != "chdir" || !errors.Is(err, unix.ENOENT) {
				t.Errorf("%v, want chdir: ENOENT", err)
			}
			if _, err := os.Stat("/proc/" + strconv.Itoa(target.PID) + "/root/not"); err == nil {
				t.Error("the directory was made")
			}
		})
		t.Run("missing program", func(t *testing.T) {
			p := process("")
			p.Args = []string{"/nope"}
			_, err := execIn(t, r, target, p)
			var s *StartError
			if !errors.As(err, &s) || s.Step != "execve" || s.Path != "/nope" || !errors.Is(err, unix.ENOENT) {
				t.Errorf("got %v", err)
			}
		})
	})
}

func TestExecAfterTheEnd(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/true")
		p, err := r.Create(t.Context(), b, Stdio{})
		must(t, err)
		must(t, r.Start(t.Context(), p))
		wait(t, p)
		defer p.PIDFD.Close()
		e := *b.Spec.Process
		if _, err := r.Exec(t.Context(), ExecTarget{PIDFD: p.PIDFD, PID: p.PID, Spec: b.Spec}, &e, Stdio{}); err == nil {
			t.Error("exec in a container that has ended")
		}
		must(t, r.Delete(t.Context(), p))
	})
}
