package runtime

import (
	"bytes"
	"io"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// console reads a terminal's output until nobody has its other side open.
func console(p *Process) string {
	var b bytes.Buffer
	_, _ = io.Copy(&b, p.Console) // ends with EIO
	p.Console.Close()
	return strings.ReplaceAll(b.String(), "\r\n", "\n")
}

func TestTerminal(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		script := "tty; stty size; stat -c %F /dev/console; echo to-console >/dev/console; echo to-tty >/dev/tty; ls /proc/self/fd | wc -l; stat -c %u:%g /dev/pts/0"
		b := bundle(t, "/bin/sh", "-c", script)
		b.Spec.Process.Terminal = true
		b.Spec.Process.ConsoleSize = &specs.Box{Height: 33, Width: 99}
		p, err := r.Create(t.Context(), b, Stdio{})
		must(t, err)
		must(t, r.Start(t.Context(), p))
		out := console(p)
		if w := "/dev/pts/0\n33 99\ncharacter special file\nto-console\nto-tty\n4\n0:5\n"; out != w {
			t.Errorf("got %q, want %q", out, w)
		}
		if c := wait(t, p); c != 0 {
			t.Errorf("exit code %d", c)
		}
		must(t, r.Delete(t.Context(), p))
		p.PIDFD.Close()
	})
}

func TestTerminalOfAnotherUser(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/sh", "-c", "stat -c %u:%g /dev/pts/0; echo ok >/dev/tty")
		b.Spec.Process.Terminal = true
		b.Spec.Process.User = specs.User{UID: 1000, GID: 1000}
		p, err := r.Create(t.Context(), b, Stdio{})
		must(t, err)
		must(t, r.Start(t.Context(), p))
		if out := console(p); out != "1000:5\nok\n" {
			t.Errorf("got %q", out)
		}
		wait(t, p)
		must(t, r.Delete(t.Context(), p))
		p.PIDFD.Close()
	})
}

func TestExecTerminal(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/sleep", "1000")
		first := background(t, r, b)
		e := *b.Spec.Process
		e.Args = []string{"sh", "-c", "tty; stty size; echo to-tty >/dev/tty"}
		e.Terminal, e.ConsoleSize = true, &specs.Box{Height: 11, Width: 22}
		p, err := r.Exec(t.Context(), ExecTarget{PIDFD: first.PIDFD, PID: first.PID, Spec: b.Spec}, &e, Stdio{})
		must(t, err)
		if out := console(p); out != "/dev/pts/0\n11 22\nto-tty\n" {
			t.Errorf("got %q", out)
		}
		wait(t, p)
		p.PIDFD.Close()
	})
}
