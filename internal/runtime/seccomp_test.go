package runtime

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func denyMkdir() *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchAARCH64},
		Syscalls: []specs.LinuxSyscall{{
			Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(5)),
		}},
	}
}

func TestSeccomp(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		for _, c := range []struct {
			name string
			edit func(b *Bundle)
		}{
			{"root", func(*Bundle) {}},
			{"no new privileges", func(b *Bundle) { b.Spec.Process.NoNewPrivileges = true }},
			{"user", func(b *Bundle) { b.Spec.Process.User = specs.User{UID: 5, GID: 5} }},
			{"user without new privileges", func(b *Bundle) {
				b.Spec.Process.User = specs.User{UID: 5, GID: 5}
				b.Spec.Process.NoNewPrivileges = true
			}},
			{"privileged", func(b *Bundle) {
				c := b.Spec.Process.Capabilities
				more := append([]string{"CAP_SYS_ADMIN"}, defaultCaps...)
				c.Bounding, c.Effective, c.Permitted = more, more, more
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				o := sh(t, r, "mkdir /tmp/x 2>&1; grep -E '^Seccomp:' /proc/self/status", func(b *Bundle) {
					b.Spec.Linux.Seccomp = denyMkdir()
					c.edit(b)
				})
				want(t, o, 0, "mkdir: can't create directory '/tmp/x': Input/output error\nSeccomp:\t2")
			})
		}
	})
}

// A filter that ends the process at its execve ends that process, and nobody else.
func TestSeccompThatKillsAtExecve(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/true")
		b.Spec.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{"execve"}, Action: specs.ActKillProcess}},
		}
		o, err := tryRun(t, r, b)
		if err != nil || o.code != 128+31 {
			t.Errorf("got exit %d, %v; want it killed by SIGSYS", o.code, err)
		}
	})
}
