package test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// served is a machine whose images others may have.
func served(t *testing.T, flags ...string) *machine {
	t.Helper()
	m := newMachine(t)
	m.daemon = m.host.StartDaemon()
	m.ok("load", "-q", "-i", testbed.Recipes()["busybox"].MustArchive(t))
	dir := t.TempDir()
	for name, text := range map[string]string{"Dockerfile": "FROM kist.test/busybox\nCOPY text /text\n", "text": "one\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.ok("build", "-q", "-t", "team/app:1", dir)
	cmd := m.host.Command("kist", append([]string{"registry", "serve"}, flags...)...)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || !strings.Contains(line, "serving") {
		t.Fatalf("%q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	return m
}

// run runs another program inside the host.
func (m *machine) run(program string, args ...string) string {
	m.t.Helper()
	out, err := m.host.Try(program, args...)
	if err != nil {
		m.t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip("skip: " + program + " is not installed")
	}
	return path
}

// id of an image of the machine's own store.
func (m *machine) id(name string) string {
	return strings.TrimSpace(m.ok("image", "inspect", "-f", "{{.Id}}", name))
}

func TestServeSkopeo(t *testing.T) {
	skopeo := need(t, "skopeo")
	m := served(t)
	dir := filepath.Join(m.host.Dir, "layout")
	m.run(skopeo, "copy", "--src-tls-verify=false", "docker://127.0.0.1:5000/team/app:1", "oci:"+dir+":1")
	m.run(skopeo, "copy", "--dest-tls-verify=false", "oci:"+dir+":1", "docker://127.0.0.1:5000/back:1")
	if m.id("back:1") != m.id("team/app:1") {
		t.Error("another image came back")
	}
	m.run(skopeo, "copy", "--dest-tls-verify=false", "--dest-compress-format=zstd", "--dest-compress", "--format=v2s2", "dir:"+m.dir(skopeo), "docker://127.0.0.1:5000/v2s2:1")
	if out := m.ok("run", "--rm", "v2s2:1", "cat", "/text"); out != "one\n" {
		t.Errorf("%q", out)
	}
	if out := m.run(skopeo, "list-tags", "--tls-verify=false", "docker://127.0.0.1:5000/back"); !strings.Contains(out, `"1"`) {
		t.Error(out)
	}
	m.run(skopeo, "delete", "--tls-verify=false", "docker://127.0.0.1:5000/back:1")
	if _, _, code := m.kist("image", "inspect", "back:1"); code == 0 {
		t.Error("deleted, and there")
	}
}

// dir has skopeo copy the image into a directory.
func (m *machine) dir(skopeo string) string {
	dir := filepath.Join(m.host.Dir, "dir")
	m.run(skopeo, "copy", "--src-tls-verify=false", "docker://127.0.0.1:5000/team/app:1", "dir:"+dir)
	return dir
}

func TestServePodman(t *testing.T) {
	podman := need(t, "podman")
	m := served(t)
	root := []string{"--root", filepath.Join(m.host.Dir, "podman"), "--runroot", filepath.Join(m.host.Dir, "podman-run"), "--storage-driver", "vfs"}
	do := func(args ...string) string { m.t.Helper(); return m.run(podman, append(root, args...)...) }
	do("pull", "-q", "--tls-verify=false", "127.0.0.1:5000/team/app:1")
	do("tag", "127.0.0.1:5000/team/app:1", "127.0.0.1:5000/from/podman:2")
	do("push", "-q", "--tls-verify=false", "127.0.0.1:5000/from/podman:2")
	if out := m.ok("run", "--rm", "from/podman:2", "cat", "/text"); out != "one\n" {
		t.Errorf("%q", out)
	}
}

// TestServeDocker has Debian's dockerd pull and push, told by its own docker and by the newest one.
func TestServeDocker(t *testing.T) {
	dockerd, old := need(t, "dockerd"), need(t, "/usr/bin/docker")
	m := served(t)
	sock := filepath.Join(m.host.Dir, "d.sock")
	cmd := m.host.Command(dockerd, "--data-root", filepath.Join(m.host.Dir, "dd"), "--exec-root", filepath.Join(m.host.Dir, "de"),
		"-H", "unix://"+sock, "--pidfile", filepath.Join(m.host.Dir, "d.pid"), "--bridge", "none", "--iptables=false", "--cgroup-parent", m.host.Cgroup())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(cmd) })
	programs := []string{old}
	if newest := testbed.Tool("docker"); newest != "" {
		programs = append(programs, newest)
	}
	for i, program := range programs {
		do := func(args ...string) string {
			m.t.Helper()
			return m.run(program, append([]string{"-H", "unix://" + sock}, args...)...)
		}
		for range 300 {
			if _, err := m.host.Try(program, "-H", "unix://"+sock, "version"); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		name := "127.0.0.1:5000/from/docker:" + string(rune('a'+i))
		do("pull", "127.0.0.1:5000/team/app:1")
		do("tag", "127.0.0.1:5000/team/app:1", name)
		do("push", name)
		if m.id(strings.TrimPrefix(name, "127.0.0.1:5000/")) != m.id("team/app:1") {
			t.Errorf("%s: another image came back", program)
		}
	}
}

// end ends a dockerd with what it has started.
func (m *machine) end(cmd *exec.Cmd) {
	if pid, err := os.ReadFile(filepath.Join(m.host.Dir, "d.pid")); err == nil {
		_, _ = m.host.Try("kill", strings.TrimSpace(string(pid)))
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
}

// TestServeBuildx pushes an index of two platforms with its attestations, and reads it back.
func TestServeBuildx(t *testing.T) {
	buildx, docker := testbed.Tool("docker-buildx"), testbed.Tool("docker")
	if buildx == "" || docker == "" {
		t.Skip("skip: buildx is not built; run make clients")
	}
	m := served(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.run(docker, "-H", "unix://"+m.host.Socket(), "buildx", "build", "-q", "--platform", "linux/amd64,linux/arm64", "--push", "-t", "127.0.0.1:5000/multi:1", dir)
	out := m.run(docker, "-H", "unix://"+m.host.Socket(), "buildx", "imagetools", "inspect", "127.0.0.1:5000/multi:1")
	if !strings.Contains(out, "linux/arm64") || !strings.Contains(out, "attestation-manifest") {
		t.Error(out)
	}
	if out := m.ok("image", "inspect", "-f", "{{.Architecture}}", "multi:1"); out != "amd64\n" {
		t.Errorf("%q", out)
	}
	m.run(docker, "-H", "unix://"+m.host.Socket(), "buildx", "imagetools", "create", "-t", "127.0.0.1:5000/multi:2", "127.0.0.1:5000/multi:1")
	m.ok("rmi", "-f", "multi:1", "multi:2", "127.0.0.1:5000/multi:1")
	if out := m.ok("images", "-aq", "--no-trunc"); strings.Count(out, "\n") != 2 {
		t.Errorf("left: %s", out)
	}
}
