package test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// TestTour runs every command of docs/tour.md, word for word, as somebody at a terminal would.
func TestTour(t *testing.T) {
	if testing.Short() {
		t.Skip("skip: -short")
	}
	needBin(t)
	raw, err := os.ReadFile("../docs/tour.md")
	if err != nil {
		t.Fatal(err)
	}
	h := testbed.NewHost(t)
	tourMirror(t, h)
	h.StartDaemon()
	dir := t.TempDir() // What the source tree has, and what the tour leaves.
	for name, to := range map[string]string{"bin": testbed.Bin(), "examples": filepath.Join(testbed.Root(), "examples")} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	commands := tourCommands(string(raw))
	if len(commands) < 30 {
		t.Fatalf("the tour has only %d commands", len(commands))
	}
	for _, c := range commands {
		shell := "cd " + dir + " && PATH=$PWD/bin:$PATH && " + c
		if strings.Contains(c, "# ctrl-d leaves") {
			p := open(t, h, 24, 120, "bash", "-c", shell)
			p.see(`[#$] $`)
			p.typed("\x04")
			if code := p.exit(); code != 0 {
				t.Errorf("%s\nexit status %d:\n%s", c, code, p.text())
			}
			continue
		}
		out, err := h.Try("bash", "-c", shell)
		t.Logf("$ %s\n%s", c, out)
		if err != nil {
			t.Errorf("%s\n%v\n%s", c, err, out)
		}
	}
	await(t, "nothing is left", func() bool { return leftovers(h) == "" })
}

// tourCommands are the lines of a page's shell blocks.
func tourCommands(page string) []string {
	var list []string
	inside := false
	for line := range strings.Lines(page) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
		case inside && line != "":
			list = append(list, line)
		}
	}
	return list
}

// tourMirror gives the host a Debian mirror of its own, and an apt configuration that names it and nothing else.
func tourMirror(t *testing.T, h *testbed.Host) {
	t.Helper()
	dir, suite, err := testbed.Mirror(t.Context(), "python3", "python3-numpy", "python3-scipy", "python3-pandas", "python3-tinydb")
	if err != nil {
		t.Skipf("skip: no Debian mirror to copy from: %v", err)
	}
	if suite != "bookworm" {
		t.Skipf("skip: the tour is about bookworm, and this machine's mirror is asked for %s", suite)
	}
	const address = "192.0.2.1" // of documentation, RFC 5737: nobody else's
	h.Run("ip", "address", "add", address+"/32", "dev", "lo")
	port := serve(t, h, http.StripPrefix("/debian", files(dir)))
	for _, dir := range []string{"/etc/apt/sources.list.d", "/etc/apt/apt.conf.d"} {
		h.Run("mount", "-t", "tmpfs", "apt", dir)
	}
	if _, err := os.Stat("/etc/apt/sources.list"); err == nil {
		h.Run("mount", "--bind", "/dev/null", "/etc/apt/sources.list")
	}
	h.Run("sh", "-c", "echo 'deb http://"+address+":"+port+"/debian bookworm main' >/etc/apt/sources.list.d/tour.list")
}
