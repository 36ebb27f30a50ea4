package runtime

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerd/errdefs"
)

func initFile(t *testing.T) string {
	t.Helper()
	b, err := InitProgram()
	if errors.Is(err, errdefs.ErrNotImplemented) {
		t.Skip("no init program for this architecture")
	}
	must(t, err)
	f := filepath.Join(t.TempDir(), "init")
	must(t, os.WriteFile(f, b, 0o755))
	return f
}

func TestInitProgramEndsAsItsChild(t *testing.T) {
	f := initFile(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "text"), []byte("x"), 0o644))
	for _, c := range []struct {
		name string
		args []string
		env  []string
		code int
		out  string
	}{
		{"path", []string{"/bin/sh", "-c", "exit 7"}, nil, 7, ""},
		{"dashes", []string{"--", "/bin/echo", "a b"}, nil, 0, "a b"},
		{"lookup", []string{"--", "sh", "-c", "echo $X"}, []string{"X=y", "PATH=/nowhere::/usr/bin:/bin"}, 0, "y"},
		{"default path", []string{"sh", "-c", "echo z"}, []string{}, 0, "z"},
		{"signal", []string{"/bin/sh", "-c", "kill -9 $$"}, nil, 137, ""},
		{"missing", []string{"nosuchprogram"}, []string{"PATH=/bin"}, 127, ""},
		{"missing path", []string{"/nosuchprogram"}, nil, 127, ""},
		{"not executable", []string{"text"}, []string{"PATH=" + dir + ":/bin"}, 126, ""},
		{"no arguments", nil, nil, 1, ""},
		{"only dashes", []string{"--"}, nil, 1, ""},
		{"long path", []string{"echo", "q"}, []string{"PATH=/" + strings.Repeat("x", 9000) + ":/bin"}, 0, "q"},
		{"long name", []string{strings.Repeat("n", 9000)}, []string{"PATH=/bin"}, 127, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(f, c.args...)
			cmd.Env = c.env
			out, err := cmd.Output()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d (%v)", got, c.code, cmd.ProcessState)
			}
			if got := strings.TrimSpace(string(out)); got != c.out {
				t.Errorf("output %q, want %q", got, c.out)
			}
		})
	}
}

func TestInitProgramForwardsSignals(t *testing.T) {
	f := initFile(t)
	cmd := exec.Command(f, "/bin/sh", "-c", `trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done`)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	buf := make([]byte, 6)
	if _, err := out.Read(buf); err != nil {
		t.Fatal(err)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if n, _ := out.Read(buf); string(buf[:n]) != "got\n" {
		t.Errorf("the program said %q", buf[:n])
	}
	_ = cmd.Wait()
	if c := cmd.ProcessState.ExitCode(); c != 5 {
		t.Errorf("exit code %d, want 5", c)
	}
}

func TestInitProgramReapsOrphans(t *testing.T) {
	f := initFile(t)
	executors(t, func(t *testing.T, r *Runtime) {
		// The orphan of a subshell ends; were it not reaped, ps would show it as a zombie of process 1.
		script := `(sleep 0.1 & ) ; sleep 0.4; ps -o stat,ppid,comm | grep -c '^Z'; readlink /proc/1/exe`
		b := bundle(t, "/sbin/docker-init", "--", "sh", "-c", script)
		b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{
			Destination: "/sbin/docker-init", Type: "bind", Source: f, Options: []string{"bind", "ro"},
		})
		want(t, run(t, r, b), 0, "0\n/sbin/docker-init")
	})
}
