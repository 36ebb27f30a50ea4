package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// remote is a host with a daemon and a ssh server, and a client that has no daemon of its own.
type remote struct {
	t    *testing.T
	host *testbed.Host
	url  string
	// bin is where the other side's programs are, settings the client's.
	bin, settings string
	path          string
}

// newRemote starts everything on one host. The ssh server has keys of its own and listens on its loopback.
func newRemote(t *testing.T) *remote {
	t.Helper()
	for _, program := range []string{"/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"} {
		if _, err := os.Stat(program); err != nil {
			t.Skipf("skip: no %s here", program)
		}
	}
	h := testbed.NewHost(t)
	h.StartDaemon()
	dir := filepath.Join(h.Dir, "ssh")
	r := &remote{t: t, host: h, url: "ssh://root@127.0.0.1:2222", bin: filepath.Join(dir, "remote"), settings: filepath.Join(dir, "settings")}
	client := filepath.Join(dir, "client")
	for _, d := range []string{dir, r.bin, r.settings, client} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"host", "user"} {
		h.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
	}
	r.write(filepath.Join(dir, "sshd_config"), fmt.Sprintf(`
Port 2222
ListenAddress 127.0.0.1
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
SetEnv PATH=%[2]s:/usr/bin:/bin KIST_EXEC_ROOT=%[3]s KIST_DATA_ROOT=%[4]s
`, dir, r.bin, filepath.Dir(h.Socket()), filepath.Join(h.Dir, "data")))
	r.write(filepath.Join(dir, "config"), fmt.Sprintf("IdentityFile %[1]s/user\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile %[1]s/known\nLogLevel ERROR\nKexAlgorithms curve25519-sha256\n", dir))
	r.write(filepath.Join(client, "ssh"), fmt.Sprintf("#!/bin/sh\nexec /usr/bin/ssh -F %s/config \"$@\"\n", dir))
	r.path = client + ":" + testbed.Bin() + ":/usr/bin:/bin"
	r.installs("kist")
	r.serve(filepath.Join(dir, "sshd_config"))
	return r
}

func (r *remote) write(file, text string) {
	r.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil { //nolint:gosec // some are programs
		r.t.Fatal(err)
	}
}

// installs puts kist there under a name, and nothing else.
func (r *remote) installs(name string) {
	r.t.Helper()
	for _, old := range []string{"kist", "docker"} {
		_ = os.Remove(filepath.Join(r.bin, old))
	}
	if err := os.Symlink(filepath.Join(testbed.Bin(), "kist"), filepath.Join(r.bin, name)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *remote) serve(config string) {
	r.t.Helper()
	// sshd wants its directory in /run; this /run is the host's own.
	r.host.Run("sh", "-c", "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd")
	name := filepath.Join(r.host.Dir, "sshd.log")
	log, err := os.Create(name)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := r.host.Command("/usr/sbin/sshd", "-D", "-e", "-f", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	// The server itself ends with its host.
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if raw, err := os.ReadFile(name); err == nil && r.t.Failed() {
			r.t.Logf("sshd's log:\n%s", raw)
		}
	})
	for range 200 {
		err := r.host.Inside(func() error {
			c, err := net.Dial("tcp", "127.0.0.1:2222")
			if err == nil {
				err = c.Close()
			}
			return err
		})
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.t.Fatal("sshd does not answer")
}

// try runs a client's command with further variables.
func (r *remote) try(env []string, name string, args ...string) (stdout, stderr string, err error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	cmd := r.host.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append([]string{
		"PATH=" + r.path, "HOME=" + r.settings, "DOCKER_CONFIG=" + r.settings,
		// No daemon is here, and none is to be started.
		"KIST_EXEC_ROOT=" + filepath.Join(r.host.Dir, "nowhere"), "KIST_NO_AUTOSTART=1",
	}, env...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("typed\n"), &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// wants runs a command that must succeed with exactly this output.
func (r *remote) wants(want string, env []string, name string, args ...string) {
	r.t.Helper()
	out, errOut, err := r.try(env, name, args...)
	if err != nil || strings.TrimSuffix(out, "\n") != want {
		r.t.Errorf("%s %s: %q, %v, %s; want %q", name, strings.Join(args, " "), out, err, errOut, want)
	}
}

// TestContexts reaches a daemon over ssh, by address and by contexts that docker and kist share.
func TestContexts(t *testing.T) {
	r := newRemote(t)
	recipe := testbed.Busybox
	r.host.Run("kist", "load", "-q", "-i", recipe.MustArchive(t))
	echo := []string{"run", "-i", "--rm", "kist.test/busybox", "cat"}

	quick := []string{"version", "-f", "{{.Server.Os}}"}

	over := []string{"DOCKER_HOST=" + r.url}
	r.wants("typed", over, "kist", echo...)
	r.wants("linux", nil, "kist", append([]string{"-H", r.url + r.host.Socket()}, quick...)...)
	r.wants("far", nil, "kist", "context", "create", "far", "--description", "over there", "--docker", "host="+r.url)
	r.wants("far", nil, "kist", "context", "use", "far")
	r.wants("far", nil, "kist", "context", "show")
	r.wants("linux", nil, "kist", quick...)
	r.wants("default false\nfar true", nil, "kist", "context", "ls", "--format", "{{.Name}} {{.Current}}")
	r.wants(r.url, nil, "kist", "context", "inspect", "-f", "{{.Endpoints.docker.Host}}")
	if _, errOut, err := r.try([]string{"DOCKER_CONTEXT=fra"}, "kist", "ps"); err == nil || !strings.Contains(errOut, "did you mean far?") {
		t.Errorf("an unknown context: %v, %s", err, errOut)
	}
	if _, errOut, err := r.try([]string{"DOCKER_CONTEXT=default"}, "kist", "ps"); err == nil || !strings.Contains(errOut, "no daemon is running") {
		t.Errorf("the default context reached a daemon: %v, %s", err, errOut)
	}

	// Where there is only docker's name, it is asked.
	r.installs("docker")
	r.wants("linux", nil, "kist", quick...)
	if docker := testbed.Tool("docker"); docker != "" {
		r.wants("typed", over, docker, echo...)
		r.wants("linux", nil, docker, append([]string{"-c", "far"}, quick...)...)
		r.wants("theirs", nil, docker, "context", "create", "theirs", "--docker", "host="+r.url)
		r.wants("linux", nil, "kist", append([]string{"-c", "theirs"}, quick...)...)
	} else {
		t.Log("skip: docker's own command is not built")
	}

	// An archive holds all of it.
	archive := filepath.Join(r.host.Dir, "far.dockercontext")
	r.wants("", nil, "kist", "context", "export", "far", archive)
	r.wants("again", nil, "kist", "context", "import", "again", archive)
	r.wants(r.url, nil, "kist", "context", "inspect", "again", "-f", "{{.Endpoints.docker.Host}}")
	if _, _, err := r.try(nil, "kist", "context", "rm", "far"); err == nil {
		t.Error("the context in use was removed")
	}
	r.wants("far", nil, "kist", "context", "rm", "-f", "far")
	r.wants("default", nil, "kist", "context", "show")
	if _, errOut, err := r.try([]string{"DOCKER_HOST=ssh://nobody@127.0.0.1:2222"}, "kist", "ps"); err == nil || !strings.Contains(errOut, "Permission denied") {
		t.Errorf("a user who may not: %v, %s", err, errOut)
	}
}
