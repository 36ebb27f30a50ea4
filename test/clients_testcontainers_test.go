package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// TestTestcontainers runs a session of testcontainers-go and sees its reaper clear up when the session has ended.
func TestTestcontainers(t *testing.T) {
	session := tool(t, "tc-session")
	name := "moby-ryuk"
	reaper := testbed.Tool(name)
	if reaper == "" {
		name = "tc-reaper"
		reaper = tool(t, name)
	}
	b := newBench(t, "")
	raw, err := os.ReadFile(reaper)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "ryuk"), raw, 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("Dockerfile", "FROM scratch\nCOPY ryuk /bin/ryuk\nENTRYPOINT [\"/bin/ryuk\"]\n")
	b.run("kist", "build", "-q", "-t", "testcontainers/ryuk:0.14.0", ".")
	b.done("the image of the reaper, " + name)
	// A machine without /etc/hosts cannot tell what localhost is.
	b.env = append(b.env, "RYUK_RECONNECTION_TIMEOUT=1s", "RYUK_VERBOSE=true", "TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1")
	out, bad, err := b.try(session)
	if err != nil {
		t.Fatalf("the session: %v\n%s%s", err, out, bad)
	}
	b.takeNotes(out)
	left := func() string {
		return b.run("kist", "ps", "-aq") + b.run("kist", "network", "ls", "-q", "--filter", "type=custom") + b.run("kist", "volume", "ls", "-q", "--filter", "label=org.testcontainers")
	}
	if n := strings.Count(left(), "\n"); n < 15 {
		t.Errorf("only %d containers and networks are there before they are reaped", n)
	}
	b.eventually(func() error {
		if l := left(); l != "" {
			return fmt.Errorf("not reaped:\n%s\n%s", l, b.run("kist", "ps", "-a"))
		}
		return nil
	})
	if images := b.run("kist", "images", "-q", "tc-session"); images != "" {
		t.Errorf("the image that the session built is still there: %s", images)
	}
	b.done("session and reaping, a second's patience of the reaper's included")
	b.tell("testcontainers-go")
}

// TestEngineClient runs a program on the client module that programs used before Docker split it off.
func TestEngineClient(t *testing.T) {
	program := tool(t, "engine-session")
	b := newBench(t, "")
	for _, version := range []string{"", "1.25", "1.43"} {
		b.env = append(b.env, "DOCKER_API_VERSION="+version)
		out, bad, err := b.try(program)
		if err != nil {
			t.Fatalf("version %s: %v\n%s%s", version, err, out, bad)
		}
		if version == "" {
			b.takeNotes(out)
		}
	}
	b.tell("github.com/docker/docker/client")
}

// TestDockerode runs a program on the client of Node's programs.
func TestDockerode(t *testing.T) {
	node := installed(t, "node")
	modules := filepath.Join(filepath.Dir(tool(t, "dockerode.version")), "dockerode", "node_modules")
	b := newBench(t, "")
	script, err := os.ReadFile("testdata/clients/dockerode.js")
	if err != nil {
		t.Fatal(err)
	}
	b.write("dockerode.js", string(script))
	b.env = append(b.env, "NODE_PATH="+modules)
	out, bad, err := b.try(node, "dockerode.js", b.host.Socket())
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, bad)
	}
	b.takeNotes(out)
	if len(b.did) < 10 {
		t.Errorf("the program ended early:\n%s%s", out, bad)
	}
	b.tell("dockerode")
}
