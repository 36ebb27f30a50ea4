package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// bench is where a client of docker's does its work: a daemon with the busybox image on a host of its own, a directory to work
// in, and a record of what was done and how long it took.
type bench struct {
	t    *testing.T
	host *testbed.Host
	dir  string
	env  []string
	last time.Time
	did  []string
}

// newBench makes a bench with a copy of a directory below testdata/clients as its working directory, if one is named.
func newBench(t *testing.T, project string) *bench {
	t.Helper()
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
	t.Parallel() // Clients wait most of their time.
	h := testbed.NewHost(t)
	h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Recipes()["busybox"].MustArchive(t))
	b := &bench{t: t, host: h, dir: filepath.Join(h.Dir, "work")}
	if project == "" {
		project = filepath.Join(t.TempDir(), "empty")
		if err := os.Mkdir(project, 0o755); err != nil {
			t.Fatal(err)
		}
	} else {
		project = filepath.Join("testdata", "clients", project)
	}
	if err := os.CopyFS(b.dir, os.DirFS(project)); err != nil {
		t.Fatal(err)
	}
	b.env = []string{"DOCKER_HOST=unix://" + h.Socket()}
	b.last = time.Now()
	return b
}

// tool is a program that scripts/clients has built; without it the test is skipped.
func tool(t *testing.T, name string) string {
	t.Helper()
	path := testbed.Tool(name)
	if path == "" {
		t.Skipf("skip: bin/tools/%s is not there; run make clients", name)
	}
	return path
}

// installed is a program of the machine's own; without it the test is skipped.
func installed(t *testing.T, path string) string {
	t.Helper()
	found, err := exec.LookPath(path)
	if err != nil {
		t.Skipf("skip: %s is not installed", path)
	}
	return found
}

func (b *bench) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append(b.host.Enter(), append([]string{"-W", b.dir, "--", name}, args...)...)...)
	cmd.Env = append(append(os.Environ(), b.host.Env()...), b.env...)
	cmd.WaitDelay = time.Second
	return cmd
}

// try runs a program to its end and returns what it wrote, apart.
func (b *bench) try(name string, args ...string) (out, bad string, err error) {
	b.t.Helper()
	var o, e bytes.Buffer
	cmd := b.command(name, args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	hung := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer hung.Stop()
	err = cmd.Run()
	return o.String(), e.String(), err
}

// run runs a program that must succeed, and returns its output.
func (b *bench) run(name string, args ...string) string {
	b.t.Helper()
	out, bad, err := b.try(name, args...)
	if err != nil {
		b.t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, bad)
	}
	return out
}

// write replaces a file of the project.
func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// want checks an output.
func (b *bench) want(what, out string, patterns ...string) {
	b.t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(out) {
			b.t.Errorf("%s: nothing matches %s in\n%s", what, p, out)
		}
	}
}

// done notes what was done since the last note.
func (b *bench) done(what string) {
	now := time.Now()
	b.did = append(b.did, fmt.Sprintf("%6.2f s  %s", now.Sub(b.last).Seconds(), what))
	b.last = now
}

// tell prints a client's figures.
func (b *bench) tell(client string) {
	b.t.Helper()
	b.t.Logf("%s: %d things done\n%s", client, len(b.did), strings.Join(b.did, "\n"))
}

// takeNotes notes the lines of a program that says itself what it did: "did: WHAT: 0.12 s".
func (b *bench) takeNotes(out string) {
	for line := range strings.Lines(out) {
		what, ok := strings.CutPrefix(strings.TrimSpace(line), "did: ")
		if i := strings.LastIndex(what, ": "); ok && i >= 0 {
			b.did = append(b.did, fmt.Sprintf("%8s  %s", what[i+2:], what[:i]))
		}
	}
}

// running is a program in the background.
type running struct {
	b    *bench
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer // both streams; guarded by mu
	done chan error
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *running) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// start starts a program in the background; it ends with the test at the latest.
func (b *bench) start(name string, args ...string) *running {
	b.t.Helper()
	r := &running{b: b, cmd: exec.Command(name, args...), done: make(chan error, 1)}
	r.cmd.Env, r.cmd.Dir, r.cmd.WaitDelay = append(append(os.Environ(), b.host.Env()...), b.env...), b.dir, time.Second
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := b.host.Inside(r.cmd.Start); err != nil { // No nsenter in between, which would not pass Ctrl-C on.
		b.t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	b.t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

// says waits until the program has written something.
func (r *running) says(pattern string) {
	r.b.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	r.b.eventually(func() error {
		if out := r.String(); !re.MatchString(out) {
			return fmt.Errorf("%s: nothing matches %s in\n%s", strings.Join(r.cmd.Args, " "), pattern, out)
		}
		return nil
	})
}

// ends waits for the program's end.
func (r *running) ends() error {
	r.b.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(20 * time.Second):
		r.b.t.Fatalf("%s: does not end:\n%s", strings.Join(r.cmd.Args, " "), r)
		return nil
	}
}

// interrupt is Ctrl-C.
func (r *running) interrupt() {
	r.b.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.b.t.Error(err)
	}
}

// eventually waits until something holds.
func (b *bench) eventually(holds func() error) {
	b.t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(30 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	b.t.Fatal(err)
}
