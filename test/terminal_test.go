package test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/kistdev/kist/internal/testbed"
)

// terminal is a person at a terminal that runs one command.
type terminal struct {
	t   *testing.T
	tty *os.File
	cmd *exec.Cmd

	mu  sync.Mutex // guards out
	out bytes.Buffer
	end chan struct{}
}

func open(t *testing.T, h *testbed.Host, rows, cols uint16, args ...string) *terminal {
	t.Helper()
	cmd := h.Command(args[0], args[1:]...)
	cmd.Env = append(cmd.Env, "TERM=xterm", "DOCKER_HOST=unix://"+h.Socket())
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		t.Fatal(err)
	}
	p := &terminal{t: t, tty: tty, cmd: cmd, end: make(chan struct{})}
	go func() {
		defer close(p.end)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			p.mu.Lock()
			p.out.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		tty.Close()
		<-p.end
	})
	return p
}

func (p *terminal) typed(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.tty, s); err != nil {
		p.t.Fatal(err)
	}
}

// see waits until the output matches.
func (p *terminal) see(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		p.mu.Lock()
		ok := re.Match(p.out.Bytes())
		p.mu.Unlock()
		if ok {
			return
		}
	}
	p.t.Fatalf("never saw %q in:\n%s", pattern, p.text())
}

func (p *terminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.ReplaceAll(p.out.String(), "\r", "")
}

// exit waits for the command's end and returns its status.
func (p *terminal) exit() int {
	p.t.Helper()
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(15 * time.Second):
		p.t.Fatalf("does not end; it showed:\n%s", p.text())
		return -1
	}
}

// TestTerminal is a person at a terminal, with our command and with docker's.
func TestTerminal(t *testing.T) {
	h := testbed.NewHost(t)
	h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	for _, program := range []string{"kist", "docker"} {
		t.Run(program, func(t *testing.T) {
			path := program
			if program == "docker" {
				p, ok := programs()["docker"]
				if !ok {
					t.Skip("skip: docker is not installed")
				}
				path = p
			}
			t.Run("run", func(t *testing.T) { terminalRun(t, h, path) })
			t.Run("detach", func(t *testing.T) { terminalDetach(t, h, path) })
			t.Run("exec", func(t *testing.T) { terminalExec(t, h, path) })
		})
	}
}

func terminalRun(t *testing.T, h *testbed.Host, program string) {
	p := open(t, h, 33, 77, program, "run", "--rm", "-it", "kist.test/busybox", "sh")
	p.see(`/ # `)
	p.typed("tty; stty size; echo $TERM\n")
	p.see(`/dev/pts/0\s+33 77\s+xterm`)
	if err := pty.Setsize(p.tty, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	// The size arrives by a signal to the program in front of the terminal: nsenter passes none on, its child gets its own.
	for range 100 {
		p.typed("stty size\n")
		time.Sleep(20 * time.Millisecond)
		if strings.Contains(p.text(), "40 100") {
			break
		}
	}
	p.see(`40 100`)
	p.typed("sleep 1000\n")
	time.Sleep(200 * time.Millisecond)
	p.typed("\x03") // ctrl-c
	p.typed("echo st''ill\n")
	p.see(`still`)
	p.typed("exit 7\n")
	if got := p.exit(); got != 7 {
		t.Errorf("exit status %d, want 7", got)
	}
}

func terminalDetach(t *testing.T, h *testbed.Host, program string) {
	p := open(t, h, 24, 80, program, "run", "-it", "--name", "tty", "kist.test/busybox", "sh")
	p.see(`/ # `)
	p.typed("x=ke''pt\n\x10\x11") // ctrl-p ctrl-q
	if got := p.exit(); got != 0 {
		t.Errorf("detached with status %d", got)
	}
	if got := h.Run("kist", "inspect", "-f", "{{.State.Running}}", "tty"); got != "true" {
		t.Errorf("running: %s", got)
	}
	p = open(t, h, 24, 80, program, "attach", "tty")
	p.typed("\necho $x\n")
	p.see(`\nkept`)
	p.typed("exit 3\n")
	if got := p.exit(); got != 3 {
		t.Errorf("attach ended with %d, want 3", got)
	}
	h.Run("kist", "rm", "-f", "tty")
}

func terminalExec(t *testing.T, h *testbed.Host, program string) {
	h.Run("kist", "run", "-d", "--name", "box", "kist.test/busybox", "sleep", "1000")
	p := open(t, h, 20, 60, program, "exec", "-it", "box", "sh")
	p.see(`/ # `)
	p.typed("stty size; ps\n")
	p.see(`20 60[\s\S]*sleep 1000`)
	p.typed("exit 4\n")
	if got := p.exit(); got != 4 {
		t.Errorf("exit status %d, want 4", got)
	}
	h.Run("kist", "rm", "-f", "box")
}
