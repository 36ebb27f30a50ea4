package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// composer is docker compose at work.
type composer struct {
	*bench
	docker string
}

func (c composer) compose(args ...string) string {
	c.t.Helper()
	return c.run(c.docker, append([]string{"compose", "--ansi", "never", "--progress", "plain"}, args...)...)
}

// states are the project's containers as docker compose sees them: "NAME STATE HEALTH STATUS", a line each.
func (c composer) states() string {
	c.t.Helper()
	var lines []string
	for line := range strings.Lines(c.compose("ps", "-a", "--format", "json")) {
		var s struct {
			Name, State, Health string
			ExitCode            int
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			c.t.Fatalf("ps: %v: %s", err, line)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %d", s.Name, s.State, s.Health, s.ExitCode))
	}
	return strings.Join(lines, "\n")
}

// page asks the web service, from outside.
func (c composer) page() (string, error) {
	address, bad, err := c.try(c.docker, "compose", "port", "web", "8080")
	if err != nil {
		return "", fmt.Errorf("port: %w: %s", err, bad)
	}
	out, bad, err := c.try("curl", "-s", "-m", "2", "http://"+strings.TrimSpace(address)+"/")
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", http.MethodGet, err, bad)
	}
	return out, nil
}

func (c composer) pageIs(want string) {
	c.t.Helper()
	c.eventually(func() error {
		got, err := c.page()
		if err != nil || got != want {
			return fmt.Errorf("the page says %q, not %q: %w", got, want, err)
		}
		return nil
	})
}

// TestCompose has docker compose, built from its module, bring a project up, use it, change it under its hands and take it down.
func TestCompose(t *testing.T) {
	docker := tool(t, "docker")
	tool(t, "docker-compose")
	tool(t, "docker-buildx")
	c := composer{newBench(t, "compose"), docker}
	c.env = append(c.env, "TOKEN_TWO=two", "WHO=us")
	c.want("version", c.compose("version"), `Docker Compose version v5\.`)
	c.up()
	c.look()
	c.use()
	c.scale()
	c.watch()
	c.change()
	c.life()
	c.down()
	c.tell("docker compose")
}

func (c composer) up() {
	c.t.Helper()
	c.want("config", c.compose("config", "--services"), "^web$", "^store$", "^fill$", "^worker$")
	c.compose("build")
	c.done("build, with an argument, a secret and two names")
	c.compose("up", "-d", "--wait")
	c.done("up --wait: dependencies healthy and completed, configs, secrets, networks, volumes")
	c.want("ps", c.states(), "^shop-web-1 running healthy 0$", "^shop-store-1 running healthy 0$", "^shop-fill-1 exited  0$", "^shop-worker-2 running  0$")
	c.pageIs("first page\n")
	if again := c.compose("up", "-d", "--wait"); strings.Contains(again, "Recreate") {
		c.t.Errorf("up again changed something:\n%s", again)
	}
	c.done("up again, with nothing to do")
}

func (c composer) look() {
	c.t.Helper()
	c.want("logs", c.compose("logs", "--no-log-prefix", "web"), "^serving with from compose, colour=green$")
	c.want("logs", c.compose("logs", "--tail", "1", "-t", "worker"), `^worker-1 +\| \d{4}-.* tick \d+ of \S+$`, `^worker-2 +\| `)
	c.want("top", c.compose("top", "web"), "httpd -f -v -p 8080")
	c.want("images", c.compose("images"), `shop-web +latest`)
	c.want("ls", c.run(c.docker, "compose", "ls"), `^shop +running\(4\)`)
	c.want("stats", c.compose("stats", "--no-stream"), "shop-worker-2")
	c.want("volumes", c.compose("volumes"), "shop_goods")
	c.want("inspect", c.run(c.docker, "inspect", "shop-web-1", "-f", "{{json .NetworkSettings.Networks}}"), `"www"`, `10\.77\.0\.`)
	follow := c.start(c.docker, "compose", "logs", "-f", "--tail", "1", "worker")
	events := c.start(c.docker, "compose", "events", "--json")
	follow.says(`(?s)worker-1.*tick \d+.*tick`)
	c.done("logs, top, images, ls, stats, volumes, port, logs -f")
	c.compose("restart", "-t", "1", "worker")
	events.says(`"action":"restart".*shop-worker-1|shop-worker-1.*"action":"restart"`)
	follow.interrupt()
	events.interrupt()
	_, _ = follow.ends(), events.ends()
	c.done("restart, seen as events")
}

func (c composer) use() {
	c.t.Helper()
	c.want("exec", c.compose("exec", "-T", "web", "sh", "-c", "cat /etc/shop.conf /inline /run/secrets/token /run/secrets/other; echo; ulimit -n; echo $TIER"),
		"^colour=green$", "^inline for us$", "^very secrettwo$", "^1000$", "^base$")
	cmd := c.command(c.docker, "compose", "exec", "-T", "web", "tr", "a-z", "A-Z")
	cmd.Stdin = strings.NewReader("typed")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "TYPED" {
		c.t.Errorf("exec with input: %v, %q", err, out)
	}
	var status *exec.ExitError
	if _, _, err := c.try(c.docker, "compose", "exec", "-T", "web", "sh", "-c", "exit 9"); !errors.As(err, &status) || status.ExitCode() != 9 {
		c.t.Errorf("exec of a command that fails: %v", err)
	}
	c.want("run", c.compose("run", "--rm", "-T", "tool"), "^first page$")
	c.want("run", c.compose("run", "--rm", "-T", "--no-deps", "-e", "X=y", "worker", "sh", "-c", "echo $X; nc store 5432"), "^y$", "^apples$")
	c.compose("cp", "web/shop.conf", "web:/tmp/copied")
	c.compose("cp", "web:/tmp/copied", "back.conf")
	if raw, err := os.ReadFile(filepath.Join(c.dir, "back.conf")); err != nil || string(raw) != "colour=green\n" {
		c.t.Errorf("cp: %q, %v", raw, err)
	}
	c.done("exec with input and status, run, run of a profile's service, cp both ways")
}

func (c composer) scale() {
	c.t.Helper()
	c.compose("scale", "worker=4")
	c.want("ps", c.states(), "^shop-worker-4 running")
	c.compose("up", "-d", "--no-recreate", "--scale", "worker=1")
	if s := c.states(); strings.Contains(s, "worker-2") {
		c.t.Errorf("still there after scaling down:\n%s", s)
	}
	c.compose("--profile", "tools", "up", "-d")
	c.want("ps", c.states(), "^shop-tool-1 ")
	c.done("scale up and down, a profile")
}

func (c composer) watch() {
	c.t.Helper()
	before := c.run(c.docker, "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", "shop-web-1")
	w := c.start(c.docker, "compose", "watch")
	w.says("[Ww]atch (enabled|configuration)|Watching")
	c.write("web/pages/index.html", "second page\n")
	c.pageIs("second page\n")
	if after := c.run(c.docker, "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", "shop-web-1"); after != before {
		c.t.Error("a synced file restarted the container")
	}
	c.write("web/start.sh", "echo restarted; exec httpd -f -p 8080 -h \"$PAGES\"\n")
	c.eventually(func() error {
		if after := c.run(c.docker, "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", "shop-web-1"); after == before || after[:64] != before[:64] {
			return fmt.Errorf("not restarted: %s", w)
		}
		return nil
	})
	c.write("web/Dockerfile", "FROM kist.test/busybox\nRUN echo rebuilt >/greeting\nCOPY start.sh /srv/start.sh\nCOPY pages /srv/pages\nCMD [\"sh\", \"/srv/start.sh\"]\n")
	c.eventually(func() error {
		out, bad, err := c.try(c.docker, "compose", "exec", "-T", "web", "cat", "/greeting")
		if err != nil || out != "rebuilt\n" {
			return fmt.Errorf("not rebuilt: %q %s: %w: %s", out, bad, err, w)
		}
		return nil
	})
	w.interrupt()
	_ = w.ends()
	c.done("watch: sync, sync and restart, rebuild")
}

func (c composer) change() {
	c.t.Helper()
	id := func(name string) string { return c.run(c.docker, "inspect", "-f", "{{.Id}}", name) }
	store, worker := id("shop-store-1"), id("shop-worker-1")
	c.write("compose.override.yaml", "services:\n  worker:\n    environment: {NEW: value}\n")
	c.compose("up", "-d", "--scale", "worker=1")
	if id("shop-store-1") != store || id("shop-worker-1") == worker {
		c.t.Error("a change of one service's environment must recreate that service, and no other")
	}
	c.want("exec", c.compose("exec", "-T", "worker", "env"), "^NEW=value$")
	if err := os.Remove(filepath.Join(c.dir, "compose.override.yaml")); err != nil {
		c.t.Error(err)
	}
	c.done("up with a changed service")
}

func (c composer) life() {
	c.t.Helper()
	c.compose("pause", "worker")
	c.want("ps", c.states(), "^shop-worker-1 paused")
	c.compose("unpause", "worker")
	c.compose("kill", "-s", "KILL", "worker")
	c.want("ps", c.states(), "^shop-worker-1 exited  137")
	c.compose("start", "worker")
	c.compose("stop", "-t", "1")
	c.want("ps", c.states(), "^shop-web-1 exited", "^shop-store-1 exited")
	c.compose("up", "-d", "--wait", "web")
	c.waits()
	c.compose("rm", "-fs", "worker")
	c.compose("create", "worker")
	c.want("ps", c.states(), "^shop-worker-1 created")
	attached := c.start(c.docker, "compose", "up", "--no-deps", "worker")
	attached.says(`worker-1 +\| tick`)
	attached.interrupt()
	_ = attached.ends()
	c.want("ps", c.states(), "^shop-worker-1 exited")
	c.done("pause, unpause, kill, start, stop, wait, rm, create, up in the foreground until Ctrl-C")
}

// waits has wait wait for a container that is stopped meanwhile.
func (c composer) waits() {
	c.t.Helper()
	c.eventually(func() error {
		c.compose("start", "store")
		stop := c.start("sh", "-c", "sleep 0.7; "+c.docker+" compose stop -t 1 store")
		out, bad, _ := c.try(c.docker, "compose", "wait", "store")
		_ = stop.ends()
		if !strings.HasSuffix(out, "exited with status code 137\n") { // Where the machine is slow it had stopped before.
			return fmt.Errorf("wait: %q %q", out, bad)
		}
		return nil
	})
}

func (c composer) down() {
	c.t.Helper()
	c.compose("--profile", "*", "down", "-v", "--rmi", "local", "-t", "1")
	c.done("down with volumes and images")
	for what, args := range map[string][]string{
		"containers": {"ps", "-aq"}, "volumes": {"volume", "ls", "-q"}, "networks": {"network", "ls", "-q", "--filter", "type=custom"}, "images": {"images", "-q", "shop-web"},
	} {
		if left := c.run(c.docker, args...); left != "" {
			c.t.Errorf("down has left %s behind:\n%s", what, left)
		}
	}
}
