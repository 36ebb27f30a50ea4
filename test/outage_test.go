package test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// TestForegroundOutlivesDaemon: the daemon is killed under a `run` in the foreground. Its stream comes from the keeper and
// goes on; the exit status is asked for from the next daemon.
func TestForegroundOutlivesDaemon(t *testing.T) {
	h := testbed.NewHost(t)
	needBin(t)
	d := h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	cmd := h.Command("kist", "run", "--name", "front", "kist.test/busybox", "sh", "-c",
		"for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.2; done; exit 7")
	cmd.Env = append(cmd.Env, "KIST_HOST=unix://"+h.Socket())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the container runs", func() bool {
		state, err := h.Try("kist", "inspect", "-f", "{{.State.Status}}", "front")
		return err == nil && state == "running"
	})
	d.Kill()
	h.StartDaemon()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit status %d, want 7; it said: %s", code, errs.String())
	}
	if n := strings.Count(out.String(), "line "); n != 8 {
		t.Errorf("%d lines of 8:\n%s", n, out.String())
	}
	h.Run("kist", "rm", "front")
	await(t, "nothing is left", func() bool { return remains(h) == "" })
}

// TestTerminalOutlivesKeeper: the keeper is killed under a terminal, which goes on with the next one.
func TestTerminalOutlivesKeeper(t *testing.T) {
	h := testbed.NewHost(t)
	needBin(t)
	h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	p := open(t, h, 24, 80, "kist", "run", "--rm", "-it", "kist.test/busybox", "sh")
	p.typed("echo fir''st\n")
	p.see("first")
	if err := h.KillKeeper(); err != nil {
		t.Fatal(err)
	}
	p.typed("echo sec''ond\n")
	p.see("second")
	p.typed("exit 9\n")
	if code := p.exit(); code != 9 {
		t.Errorf("exit status %d, want 9", code)
	}
	await(t, "nothing is left", func() bool { return remains(h) == "" })
}

// TestReboot: everything but the data root is gone. Restart policies apply, the rest is exited, and nothing of --rm is left.
func TestReboot(t *testing.T) {
	h := testbed.NewHost(t)
	needBin(t)
	d := h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	const image = "kist.test/busybox"
	h.Run("kist", "run", "-d", "--name", "always", "--restart", "always", "-p", "8080:80", image, "httpd", "-f", "-h", "/etc")
	h.Run("kist", "run", "-d", "--name", "stopped", "--restart", "unless-stopped", image, "sleep", "1000")
	h.Run("kist", "stop", "-t", "0", "stopped")
	h.Run("kist", "run", "-d", "--name", "plain", image, "sleep", "1000")
	h.Run("kist", "run", "-d", "--rm", "--name", "once", image, "sleep", "1000")
	h.Run("kist", "create", "--name", "new", image, "sleep", "1000")
	d.Kill() // Reaped by us: the host does not end before all its processes are.
	h.Reboot()
	h.StartDaemon()
	for name, want := range map[string]string{"always": "running", "stopped": "exited", "plain": "exited", "new": "created"} {
		await(t, name+" is "+want, func() bool {
			state, err := h.Try("kist", "inspect", "-f", "{{.State.Status}}", name)
			return err == nil && state == want
		})
	}
	await(t, "the port answers", func() bool {
		out, err := h.Try("curl", "-s", "http://127.0.0.1:8080/passwd")
		return err == nil && strings.Contains(out, "root:")
	})
	await(t, "once is gone", func() bool { _, err := h.Try("kist", "inspect", "once"); return err != nil })
	h.Run("kist", "start", "plain")
	h.Run("kist", "rm", "-f", "always", "stopped", "plain", "new")
	await(t, "nothing is left", func() bool { return remains(h) == "" })
}

// TestUpgrade: the daemon is stopped, and one from other files takes over while the keeper of the first goes on.
func TestUpgrade(t *testing.T) {
	h := testbed.NewHost(t)
	needBin(t)
	d := h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	h.Run("kist", "run", "-d", "--name", "box", "kist.test/busybox", "sh", "-c", "while :; do echo tick; sleep 0.05; done")
	before := h.Run("kist", "inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "box")
	d.Stop()
	newer := t.TempDir()
	for _, name := range []string{"kist", "kistd"} {
		if out, err := exec.Command("cp", filepath.Join(testbed.Bin(), name), newer).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Setenv("KIST_TESTBED_BIN", newer)
	h.StartDaemon()
	if after := h.Run("kist", "inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "box"); after != before {
		t.Errorf("the container was %s, is %s", before, after)
	}
	h.Run("kist", "exec", "box", "true")
	lines := strings.Count(h.Run("kist", "logs", "box"), "tick")
	await(t, "the log goes on", func() bool { return strings.Count(h.Run("kist", "logs", "box"), "tick") > lines })
	// The next keeper is the new daemon's.
	if err := h.KillKeeper(); err != nil {
		t.Fatal(err)
	}
	h.Run("kist", "exec", "box", "true")
	h.Run("kist", "rm", "-f", "box")
	await(t, "nothing is left", func() bool { return remains(h) == "" })
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// TestDiskFull: whoever is told that the disk is full is told who fills it, and what frees most.
func TestDiskFull(t *testing.T) {
	h := testbed.NewHost(t)
	needBin(t)
	data := filepath.Join(h.Dir, "data")
	h.Run("mkdir", data)
	h.Run("mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", data)
	d := h.StartDaemon()
	defer d.Stop()
	const image = "kist.test/busybox"
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	h.Run("kist", "run", "--name", "over", image, "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=12")
	h.Run("kist", "run", "--rm", "-v", "kept:/v", image, "dd", "if=/dev/zero", "of=/v/big", "bs=1M", "count=10")
	h.Run("kist", "run", "-d", "--name", "runs", image, "sleep", "1000")
	file := filepath.Join(h.Dir, "file")
	h.Run("dd", "if=/dev/zero", "of="+file, "bs=1M", "count=30", "status=none")
	_, err := h.Try("kist", "cp", file, "runs:/file")
	if err == nil {
		t.Fatal("a full disk took a file")
	}
	text := err.Error()
	for _, want := range []string{
		"no space left on device", "the file system of " + data, "container over 12.58MB", "volume kept 10.49MB", "kist container prune (frees 12.58MB)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not said: %s\n%s", want, text)
		}
	}
	h.Run("kist", "rm", "-f", "runs")
	h.Run("kist", "container", "prune", "-f")
	await(t, "there is room again", func() bool { // deleted behind the answer
		_, err := h.Try("kist", "run", "--rm", image, "true")
		return err == nil
	})
}
