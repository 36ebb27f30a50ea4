package test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

var (
	crashSeed   = flag.Uint64("crash-seed", 1, "seed of TestCrash")
	crashRounds = flag.Int("crash-rounds", 6, "rounds of TestCrash, of ten kills each")
)

// crashBed is a host whose daemon and keeper are killed while clients work.
type crashBed struct {
	t      *testing.T
	h      *testbed.Host
	daemon *testbed.Daemon

	commands atomic.Int64

	mu    sync.Mutex // guards acked
	acked map[string]*promise
}

// promise is a container whose id a command has printed.
type promise struct {
	what string
	// code is what its process exits with; -1 if it does not by itself. started says that its start was acknowledged, too.
	code    int
	started bool
	// gone: a removal was asked for, so it may be there or not.
	gone bool
}

func needBin(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
}

// TestCrash kills the daemon, the keeper, or both, while clients create, start, exec, stop and remove, then starts them
// again. What was acknowledged is there, exit codes are right, and nothing is left that no container owns.
func TestCrash(t *testing.T) {
	h := testbed.NewHost(t)
	needBin(t)
	b := &crashBed{t: t, h: h, daemon: h.StartDaemon(), acked: map[string]*promise{}}
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	defer func() {
		if t.Failed() {
			t.Logf("again with: -run 'TestCrash$' -args -crash-seed=%d", *crashSeed)
		}
	}()
	r := rand.New(rand.NewPCG(*crashSeed, 0))
	for round := range *crashRounds {
		b.round(r)
		b.check(round)
		if t.Failed() {
			return
		}
	}
}

// kist runs a command against the daemon that is there; it never starts one.
func (b *crashBed) kist(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := b.h.CommandContext(ctx, "kist", args...)
	cmd.WaitDelay = time.Second // What nsenter started keeps its output open.
	// In turn as a client of any daemon, and of its own, which it asks in another way.
	way := "KIST_NO_AUTOSTART=1"
	if b.commands.Add(1)%2 == 0 {
		way = "KIST_HOST=unix://" + b.h.Socket()
	}
	cmd.Env = append(cmd.Env, way)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		b.t.Errorf("hangs: kist %s", strings.Join(args, " "))
	}
	return strings.TrimSpace(string(out)), err
}

func (b *crashBed) round(r *rand.Rand) {
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range 3 {
		own := rand.New(rand.NewPCG(r.Uint64(), 0))
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					b.work(own)
				}
			}
		})
	}
	for range 10 {
		time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
		switch r.IntN(3) {
		case 0:
			b.daemon.Kill()
			b.daemon = b.h.StartDaemon()
		case 1:
			b.killKeeper()
		case 2:
			b.killKeeper()
			b.daemon.Kill()
			b.daemon = b.h.StartDaemon()
		}
	}
	close(stop)
	workers.Wait()
}

// killKeeper ends the keeper, if there is one at this moment.
func (b *crashBed) killKeeper() {
	pids, err := b.h.Processes("kist", "keeper")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

var containerID = regexp.MustCompile(`(?m)^[0-9a-f]{64}$`)

// work is one thing that a client does.
func (b *crashBed) work(r *rand.Rand) {
	const image = "kist.test/busybox"
	switch r.IntN(9) {
	case 0:
		b.note(-1, "run", "-d", image, "sleep", "1000")
	case 1:
		b.note(-1, "run", "-d", "--network", "none", image, "sleep", "1000")
	case 2:
		b.note(-1, "run", "-d", "-p", strconv.Itoa(20000+r.IntN(20000))+":80", image, "sleep", "1000")
	case 3:
		code := r.IntN(100)
		b.note(code, "run", "-d", "--network", "none", image, "sh", "-c", fmt.Sprintf("sleep 0.%d; exit %d", r.IntN(3), code))
	case 4:
		b.note(-1, "create", image, "sleep", "1000")
	case 5:
		b.foreground(r.IntN(100), image)
	case 6:
		if id := b.pick(r, false); id != "" {
			_, _ = b.kist("exec", id, "true")
		}
	case 7:
		if id := b.pick(r, false); id != "" {
			_, _ = b.kist("start", id)
		}
	case 8:
		if id := b.pick(r, true); id != "" {
			_, _ = b.kist("rm", "-f", "-v", id)
		}
	}
}

// foreground waits for a container's end, whatever dies meanwhile. It may not have begun (125), and nobody can know its status
// (255) when daemon and keeper died together; but it has no other one.
func (b *crashBed) foreground(code int, image string) {
	_, err := b.kist("run", "--rm", "--network", "none", image, "sh", "-c", fmt.Sprintf("sleep 0.%d; exit %d", code%3, code))
	got := 0
	if x := (*exec.ExitError)(nil); errors.As(err, &x) {
		got = x.ExitCode()
	} else if err != nil {
		b.t.Errorf("run --rm: %v", err)
	}
	if got != code && got != 125 && got != 255 {
		b.t.Errorf("run --rm of what exits with %d: %d: %v", code, got, explained(err))
	}
}

// note runs a command that prints an id.
func (b *crashBed) note(code int, args ...string) {
	out, err := b.kist(args...)
	if id := containerID.FindString(out); id != "" {
		b.mu.Lock()
		b.acked[id] = &promise{what: strings.Join(args, " "), code: code, started: err == nil && args[0] == "run"}
		b.mu.Unlock()
	}
}

// pick chooses a container that is to be there: one that does not exit by itself, so that its exit code stays its own.
func (b *crashBed) pick(r *rand.Rand, remove bool) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := r.IntN(len(b.acked) + 1)
	for id, p := range b.acked {
		if n--; n <= 0 && !p.gone && (remove || p.code < 0) {
			p.gone = remove
			return id
		}
	}
	return ""
}

// check looks at everything when the clients are done, and removes the containers.
func (b *crashBed) check(round int) {
	b.t.Helper()
	for id, p := range b.acked {
		if p.gone {
			continue
		}
		out, err := b.kist("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", id)
		if err != nil {
			b.t.Errorf("round %d: lost: %s (%s)", round, id, p.what)
			continue
		}
		status, pid, _ := strings.Cut(out, " ")
		switch {
		case p.started && p.code >= 0:
			b.checkExit(round, id, p)
		case p.started && status != "running":
			b.t.Errorf("round %d: %s (%s) is %s", round, id, p.what, status)
		case status == "running":
			if _, err := b.h.Try("kill", "-0", pid); err != nil {
				b.t.Errorf("round %d: %s (%s) runs as process %s, which is not there", round, id, p.what, pid)
			}
			if _, err := b.kist("exec", id, "true"); err != nil {
				b.t.Errorf("round %d: exec in %s (%s): %v", round, id, p.what, explained(err))
			}
		}
	}
	all, err := b.kist("ps", "-aq", "--no-trunc")
	if err != nil {
		b.t.Fatalf("round %d: %v", round, explained(err))
	}
	if ids := strings.Fields(all); len(ids) > 0 {
		if _, err := b.kist(append([]string{"rm", "-f"}, ids...)...); err != nil {
			b.t.Errorf("round %d: remove all: %v", round, explained(err))
		}
	}
	b.acked = map[string]*promise{}
	var found string
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if found = remains(b.h); found == "" {
			return
		}
	}
	keeper, _ := os.ReadFile(filepath.Join(filepath.Dir(b.h.Socket()), "keeper", "keeper.log"))
	b.t.Errorf("round %d: left behind:\n%s\nthe keeper's log:\n%s", round, found, keeper)
}

func (b *crashBed) checkExit(round int, id string, p *promise) {
	if _, err := b.kist("wait", id); err != nil {
		b.t.Errorf("round %d: wait for %s: %v", round, id, explained(err))
	}
	out, _ := b.kist("inspect", "-f", "{{.State.ExitCode}} {{.State.Error}}", id)
	code, text, _ := strings.Cut(out, " ")
	if code != strconv.Itoa(p.code) && !strings.Contains(text, "unknown") {
		b.t.Errorf("round %d: %s (%s) exited with %s %q", round, id, p.what, code, text)
	}
}

// explained is a command's error with what it wrote to standard error.
func explained(err error) error {
	if x, ok := err.(*exec.ExitError); ok { //nolint:errorlint // exec returns it bare
		return fmt.Errorf("%w: %s", err, x.Stderr)
	}
	return err
}

// remains is leftovers with what else a crash may leave: processes, veths, ports, writable layers, records of the keeper.
func remains(h *testbed.Host) string {
	found := []string{}
	add := func(what string, more ...string) {
		for _, m := range more {
			found = append(found, what+" "+m)
		}
	}
	if s := leftovers(h); s != "" {
		found = append(found, s)
	}
	for what, pattern := range map[string]string{
		"writable layer": h.Dir + "/data/layers/c/*", "removed layer": h.Dir + "/data/layers/x/*",
		"temporary layer": h.Dir + "/data/layers/t/*", "download": h.Dir + "/data/content/ingest/*",
		"keeper's record": filepath.Dir(h.Socket()) + "/keeper/tasks/*", "shm": filepath.Dir(h.Socket()) + "/shm/*",
	} {
		files, _ := filepath.Glob(pattern)
		add(what, files...)
	}
	ps, err := h.Try("ps", "-e", "-o", "pid=,ppid=,args=")
	if err != nil {
		return err.Error()
	}
	own := map[string]int{}
	for line := range strings.Lines(ps) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] == "1" {
			continue
		}
		// The host, a daemon, a keeper, and ps itself.
		if name := filepath.Base(f[2]); name == "ps" || (name == "kist" || name == "kistd") && own[name] == 0 {
			own[name]++
			continue
		}
		add("process, its parent, its program:", strings.TrimSpace(line))
	}
	rules, err := h.Try("nft", "list", "ruleset")
	if err != nil {
		return err.Error()
	}
	if strings.Contains(rules, "elements") {
		add("published port", rules)
	}
	if len(found) > 0 {
		add("processes are", ps)
	}
	links, err := h.Try("ip", "-o", "link", "show", "type", "veth")
	if err != nil {
		return err.Error()
	}
	if spare := strings.Count(links, "\n") + 1; links != "" && spare > spareWires {
		add("veths", links)
	}
	return strings.Join(found, "\n")
}

// spareWires is how many network namespaces the daemon keeps ready.
const spareWires = 64
