package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// second starts another daemon on the host, with a store of its own, and returns its address.
func (r *remote) second() string {
	r.t.Helper()
	dir := filepath.Join(r.host.Dir, "near")
	socket := filepath.Join(dir, "run", "kist.sock")
	cmd := r.host.Command(filepath.Join(testbed.Bin(), "kistd"), "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "run"),
		"-H", "unix://"+socket, "--cgroup-parent", r.host.Cgroup())
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 400 {
		if _, err := r.host.Try("kist", "-H", "unix://"+socket, "version"); err == nil {
			return "unix://" + socket
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.t.Fatal("the second daemon does not answer")
	return ""
}

// TestMoveOverSSH moves an image and a container over ssh, is cut off in the middle, and meets hosts that cannot take anything.
func TestMoveOverSSH(t *testing.T) {
	r := newRemote(t)
	near := r.second()
	env := []string{"KIST_HOST=" + near}
	r.host.Run("kist", "-H", near, "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	id, _, err := r.try(env, "kist", "image", "inspect", "-f", "{{.Id}}", "kist.test/busybox")
	if err != nil {
		t.Fatal(err)
	}
	r.wants(strings.TrimSpace(id), env, "kist", "move", "kist.test/busybox", r.url)
	r.host.Run("kist", "image", "inspect", "kist.test/busybox") // There.

	// A volume that is large enough to be cut off: random bytes, so that they take their time.
	r.host.Run("kist", "-H", near, "run", "--rm", "-v", "data:/d", "kist.test/busybox", "sh", "-c", "head -c 60000000 /dev/urandom >/d/big; md5sum /d/big >/d/sum")
	cmd := r.host.Command("kist", "-H", near, "move", "--progress", "plain", "data", r.url)
	cmd.Env = append(cmd.Environ(), "PATH="+r.path, "HOME="+r.settings, "DOCKER_CONFIG="+r.settings)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	packs := filepath.Join(r.host.Dir, "data", "move", "received")
	for begun := time.Now(); received(packs) < 8<<20 && time.Since(begun) < 20*time.Second; {
		time.Sleep(time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := r.host.Try("kist", "volume", "inspect", "data"); err == nil {
		t.Log("it was faster than the cut")
	} else if kept := received(packs); kept < 8<<20 {
		t.Errorf("%d bytes are kept", kept)
	}
	_, errOut, err := r.try(env, "kist", "move", "--replace", "data", r.url)
	if err != nil || !strings.Contains(errOut, "(the rest was there") {
		t.Errorf("%v, %s", err, errOut)
	}
	r.host.Run("kist", "run", "--rm", "-v", "data:/d", "kist.test/busybox", "md5sum", "-c", "/d/sum")
	if left := received(packs); left > 0 {
		t.Errorf("%d bytes are left", left)
	}
	r.moveContainer(env)

	// Nobody is there, nobody answers, nobody may.
	for url, says := range map[string]string{
		"ssh://root@127.0.0.1:2223": "cannot reach ssh://root@127.0.0.1:2223", "ssh://nobody@127.0.0.1:2222": "Permission denied",
	} {
		if _, errOut, err := r.try(env, "kist", "move", "kist.test/busybox", url); err == nil || !strings.Contains(errOut, says) {
			t.Errorf("%s: %v, %s", url, err, errOut)
		}
	}
	_ = os.Remove(filepath.Join(r.bin, "kist"))
	if _, errOut, err := r.try(env, "kist", "move", "kist.test/busybox", r.url); err == nil || !strings.Contains(errOut, "there is no kist at") {
		t.Errorf("%v, %s", err, errOut)
	}
}

func (r *remote) moveContainer(env []string) {
	r.t.Helper()
	r.wants("ready", env, "kist", "run", "--name", "first", "kist.test/busybox", "echo", "ready")
	if _, errOut, err := r.try(env, "kist", "run", "-d", "--name", "web", "-p", "127.0.0.1:8300:80", "-v", "site:/www", "kist.test/busybox",
		"sh", "-c", "trap exit TERM; echo page >/www/index.html; httpd -h /www; while :; do sleep 0.1; done"); err != nil {
		r.t.Fatal(err, errOut)
	}
	_, errOut, err := r.try(env, "kist", "move", "web", r.url)
	if err != nil || !strings.Contains(errOut, "it runs there, and is not here any more") {
		r.t.Fatal(err, errOut)
	}
	out := r.host.Run("kist", "exec", "web", "wget", "-qO-", "http://127.0.0.1/index.html")
	if !strings.Contains(out, "page") {
		r.t.Errorf("%q", out)
	}
	r.host.Run("kist", "rm", "-f", "web")
}

// received is how many bytes are kept of moves.
func received(dir string) (n int64) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range list {
		if fi, err := e.Info(); err == nil {
			n += fi.Size()
		}
	}
	return n
}
