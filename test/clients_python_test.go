package test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestComposeV1 has docker-compose 1.29, written in Python on API 1.22 to 1.41, do what projects of its time did.
func TestComposeV1(t *testing.T) {
	path := "/usr/bin/docker-compose"
	if out, err := exec.Command(path, "version", "--short").Output(); err != nil || !strings.HasPrefix(string(out), "1.") {
		t.Skip("skip: docker-compose 1 is not installed (Debian's docker-compose)")
	}
	b := newBench(t, "compose-v1")
	b.env = append(b.env, "COMPOSE_PROJECT_NAME=old")
	compose := func(args ...string) string {
		t.Helper()
		return b.run(path, append([]string{"--ansi", "never"}, args...)...)
	}
	b.env = append(b.env, "COMPOSE_DOCKER_CLI_BUILD=0") // By the endpoint of docker's classic builder.
	b.want("build", compose("build"), "Successfully tagged old_page:latest")
	b.done("build, classic")
	compose("up", "-d")
	b.want("ps", compose("ps"), `^old_page_1 .* Up +127\.0\.0\.1:\d+->8080/tcp`, `^old_store_1 .*Up \(health`)
	b.done("up: a healthy dependency, links, networks, limits")
	b.want("logs", compose("logs", "--no-color"), `^page_1 +\| serving$`)
	b.want("exec", compose("exec", "-T", "page", "sh", "-c", "cat /notes; nslookup db; nc store 5432; echo $MODE"), "^a note$", `^Name:\s+db$`, "^up$", "^plain$")
	b.want("run", compose("run", "--rm", "-T", "page", "echo", "one off"), "^one off$")
	address := strings.TrimSpace(compose("port", "page", "8080"))
	b.want("page", b.run("curl", "-s", "http://"+address+"/"), "^hello$")
	b.done("logs, exec, run, port")
	events := b.start(path, "events", "--json")
	compose("up", "-d", "--scale", "worker=3")
	if n := strings.Count(compose("ps", "-q", "worker"), "\n"); n != 3 {
		t.Errorf("%d workers after scaling to three", n)
	}
	compose("restart", "-t", "1", "worker")
	events.says(`"action": "start".*worker`)
	events.interrupt()
	_ = events.ends()
	compose("rm", "-fs", "worker")
	compose("stop", "-t", "1")
	compose("start")
	b.done("scale, restart, events, rm, stop, start")
	compose("exec", "-T", "page", "sh", "-c", "echo written >/kept/file")
	b.env = append(b.env, "MODE=other")
	compose("up", "-d")
	b.want("exec", compose("exec", "-T", "page", "sh", "-c", "echo $MODE; cat /kept/file"), "^other$", "^written$")
	b.done("up with a changed service")
	compose("down", "-v", "-t", "1", "--rmi", "local")
	if left := b.run("kist", "ps", "-aq") + b.run("kist", "volume", "ls", "-q", "--filter", "label=com.docker.compose.project=old") + b.run("kist", "network", "ls", "-q", "--filter", "type=custom"); left != "" {
		t.Errorf("down has left behind:\n%s", left)
	}
	b.done("down with volumes and images")
	b.tell("docker-compose 1.29")
}

// TestDockerPy runs a long program on Docker's Python client.
func TestDockerPy(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's, which has Debian's modules.
	if err := exec.Command(python, "-c", "import docker").Run(); err != nil {
		t.Skip("skip: Docker's Python client is not installed (python3-docker)")
	}
	b := newBench(t, "python")
	for _, version := range []string{"1.35", "auto"} {
		out := b.run(python, "client.py", b.host.Socket(), version)
		if version == "auto" {
			b.takeNotes(out)
		}
	}
	b.tell("docker-py")
}
