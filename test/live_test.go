package test

import (
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// TestLiveTables has a person look at stats and top on terminals of two widths.
func TestLiveTables(t *testing.T) {
	m := newMachine(t)
	m.host.StartDaemon()
	m.host.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	m.host.Run("kist", "run", "-d", "--name", "idle", "kist.test/busybox", "sleep", "1000")
	m.host.Run("kist", "run", "-d", "--name", "busy", "kist.test/busybox", "sh", "-c", "while :; do :; done")

	wide := open(t, m.host, 24, 120, "kist", "stats")
	wide.see(`BLOCK I/O`)
	wide.see(`2 containers, CPU [1-9]`)
	wide.typed("c")
	wide.see(`(?s)busy.*idle.*\[q\]uit`)
	wide.typed("q")
	leave(t, wide)
	if out := wide.text(); !strings.HasSuffix(out, "\x1b[?25h") {
		t.Errorf("the cursor was not given back: %q", out[max(len(out)-80, 0):])
	}
	narrow := open(t, m.host, 24, 60, "kist", "stats", "busy")
	narrow.see(`busy +\d`)
	narrow.typed("\x03")
	leave(t, narrow)
	if strings.Contains(narrow.text(), "BLOCK I/O") {
		t.Errorf("the table is wider than the terminal:\n%s", narrow.text())
	}

	top := open(t, m.host, 10, 100, "kist", "top")
	top.see(`2 containers, 2 processes`)
	top.see(`busy .*R +[1-9]\d\.\d%`)
	top.typed("n")
	top.see(`idle .*sleep 1000`)
	top.typed("q")
	leave(t, top)

	// Off a terminal it is one table of data.
	out := m.host.Run("kist", "top", "--sort", "container")
	if lines := strings.Split(out, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "CONTAINER") || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	if out := m.host.Run("kist", "top", "--format", "{{.Container}} {{.Command}}", "idle"); out != "idle sleep 1000" {
		t.Errorf("%q", out)
	}
	if out := m.host.Run("kist", "top", "idle", "-o", "pid,comm"); !strings.Contains(out, "sleep") || strings.Contains(out, "CPU") {
		t.Errorf("docker's own: %q", out)
	}
}

// leave waits for the end of a table that somebody has left.
func leave(t *testing.T, p *terminal) {
	t.Helper()
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, p.text())
	}
	<-p.end
}
