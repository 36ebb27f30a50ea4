package test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/testbed/soak"
)

// TestComposeRegistry has docker compose push, pull and run a project to its end, and takes it to a terminal.
func TestComposeRegistry(t *testing.T) {
	docker := tool(t, "docker")
	tool(t, "docker-compose")
	tool(t, "docker-buildx")
	c := composer{newBench(t, "compose-registry"), docker}
	if soak.Registry(t, c.host) == "" {
		t.Skip("skip: docker-registry is not installed")
	}
	c.compose("build", "--push")
	c.done("build --push with provenance and an inline cache")
	out, bad, err := c.try(docker, "compose", "up", "--abort-on-container-exit", "--exit-code-from", "app")
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 4 {
		t.Errorf("up --exit-code-from: %v\n%s", err, bad)
	}
	c.want("up", out, `app-1 +\| app`, `other-1 +\| line`, `other-1 +\| bye`)
	c.done("up in the foreground until one ends, with its status")
	c.compose("push")
	c.compose("down", "--rmi", "all")
	if left := c.run(docker, "images", "-q", "127.0.0.1:5000/shelf/app:1"); left != "" {
		t.Errorf("down --rmi all has left %s", left)
	}
	c.compose("pull")
	c.compose("up", "-d", "--pull", "always")
	c.done("push, down --rmi all, pull, up --pull always")
	c.want("config", c.compose("config", "--resolve-image-digests"), `127\.0\.0\.1:5000/shelf/app:1@sha256:`)
	c.compose("export", "other", "-o", "other.tar")
	c.want("export", c.run("tar", "tf", "other.tar"), "^b$")
	c.compose("commit", "other", "committed:1")
	c.want("commit", c.run(docker, "run", "--rm", "committed:1", "cat", "/b"), "^built$")
	c.compose("--dry-run", "up", "-d", "--scale", "other=3")
	if strings.Contains(c.states(), "other-2") {
		t.Error("a dry run has made a container")
	}
	c.done("config with digests, export, commit, dry run")
	file := filepath.Join(c.dir, "compose.yaml")
	p := open(t, c.host, 30, 90, docker, "compose", "-f", file, "exec", "other", "sh")
	p.typed("stty size; exit 7\n")
	p.see(`30 90`)
	if code := p.exit(); code != 7 {
		t.Errorf("exec at a terminal: %d", code)
	}
	p = open(t, c.host, 30, 90, docker, "compose", "-f", file, "run", "--rm", "app", "sh")
	p.see(`/ # `) // The size is told when the shell has begun.
	p.typed("while ! stty size; do :; done; exit 8\n")
	p.see(`30 90`)
	if code := p.exit(); code != 8 {
		t.Errorf("run at a terminal: %d", code)
	}
	p = open(t, c.host, 30, 90, docker, "compose", "-f", file, "attach", "--index", "1", "other")
	p.see(`line`)
	p.typed("\x10\x11") // ctrl-p, ctrl-q
	p.exit()
	c.want("ps", c.states(), "^shelf-other-1 running")
	c.done("exec, run and attach at a terminal")
	c.compose("down", "-t", "1")
	c.env = append(c.env, "DOCKER_BUILDKIT=0")
	c.want("build", c.compose("build"), "Successfully tagged 127.0.0.1:5000/shelf/app:1")
	c.done("down; build by the classic builder")
	c.tell("docker compose with a registry and at a terminal")
}
