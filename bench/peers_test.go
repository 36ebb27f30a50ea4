package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// program runs commands inside one host, without anything in between.
type program struct {
	t    *testing.T
	host *testbed.Host
	path string
	args []string // before each command's own
	env  []string
	pid  int // of the daemon as seen from outside, where there is one
}

func (p *program) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, append(p.args[:len(p.args):len(p.args)], args...)...)
	cmd.Env = append(append(os.Environ(), p.host.Env()...), p.env...)
	return cmd
}

// do runs a command and returns its output in the error when it fails.
func (p *program) do(args ...string) error {
	_, err := p.out(args...)
	return err
}

func (p *program) out(args ...string) (string, error) {
	var out bytes.Buffer
	err := p.host.Inside(func() error {
		cmd := p.command(args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	})
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(p.path), strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// runner is do with the thread prepared beforehand and output thrown away: what a shell would measure.
func (p *program) runner(args ...string) func() error {
	begin, end := make(chan struct{}), make(chan error)
	p.t.Cleanup(func() { close(begin) })
	go func() {
		failed := p.host.Inside(func() error {
			for range begin {
				end <- p.command(args...).Run()
			}
			return nil
		})
		for range begin {
			end <- failed
		}
	}()
	return func() error {
		begin <- struct{}{}
		if err := <-end; err != nil {
			return fmt.Errorf("%s %s: %w", filepath.Base(p.path), strings.Join(args, " "), err)
		}
		return nil
	}
}

func kist(t *testing.T, flags ...string) *program {
	t.Helper()
	h := testbed.NewHost(t)
	d := h.StartDaemon(flags...)
	return &program{t: t, host: h, path: filepath.Join(testbed.Bin(), "kist"), pid: d.PID()}
}

// docker starts Debian's dockerd on a host of its own.
func docker(t *testing.T) (*program, error) {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil {
		return nil, fmt.Errorf("not installed")
	}
	h := testbed.NewHost(t)
	sock := filepath.Join(h.Dir, "docker.sock")
	log, err := os.Create(filepath.Join(h.Dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	cmd := h.Command("dockerd", "--data-root", filepath.Join(h.Dir, "docker-data"), "--exec-root", filepath.Join(h.Dir, "docker-exec"),
		"-H", "unix://"+sock, "--pidfile", filepath.Join(h.Dir, "docker.pid"), "--cgroup-parent", h.Cgroup())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &program{t: t, host: h, path: "/usr/bin/docker", env: []string{"DOCKER_HOST=unix://" + sock}}
	t.Cleanup(func() {
		if pid, err := os.ReadFile(filepath.Join(h.Dir, "docker.pid")); err == nil {
			_, _ = h.Try("kill", strings.TrimSpace(string(pid)))
		}
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
		}
	})
	for range 600 {
		if p.do("version") == nil {
			return p, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	raw, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("dockerd does not answer: %s", raw[max(0, len(raw)-500):])
}

// podman has no daemon.
func podman(t *testing.T) (*program, error) {
	t.Helper()
	path, err := exec.LookPath("podman")
	if err != nil {
		return nil, fmt.Errorf("not installed")
	}
	h := testbed.NewHost(t)
	return &program{t: t, host: h, path: path, args: []string{
		"--root", filepath.Join(h.Dir, "podman"), "--runroot", filepath.Join(h.Dir, "podman-run"), "--cgroup-manager", "cgroupfs", "--runtime", "runc",
		"--events-backend", "none",
	}}, nil
}

// rootfs unpacks an image of one layer for what takes directories.
func rootfs(t *testing.T, h *testbed.Host) string {
	t.Helper()
	dir := filepath.Join(h.Dir, "rootfs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in, err := os.Open("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, "bin/busybox"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("busybox", filepath.Join(dir, "bin/true")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runc makes a bundle that runs true.
func runc(t *testing.T) (*program, []string, error) {
	t.Helper()
	path, err := exec.LookPath("runc")
	if err != nil {
		return nil, nil, fmt.Errorf("not installed")
	}
	h := testbed.NewHost(t)
	rootfs(t, h)
	p := &program{t: t, host: h, path: path, args: []string{"--root", filepath.Join(h.Dir, "runc")}}
	if err := p.do("spec", "-b", h.Dir); err != nil {
		return nil, nil, err
	}
	file := filepath.Join(h.Dir, "config.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, nil, err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, []string{"true"}
	delete(process, "rlimits")
	spec["linux"].(map[string]any)["cgroupsPath"] = h.Cgroup() + "/bench"
	if raw, err = json.Marshal(spec); err != nil {
		return nil, nil, err
	}
	return p, []string{"run", "-b", h.Dir, "bench"}, os.WriteFile(file, raw, 0o600)
}

// failed is a row for a contestant that cannot take part.
func failed(name string, err error) *row { return &row{name: name, err: err} }
