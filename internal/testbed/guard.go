package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// guardEvery is how often a host's commands are looked at.
	guardEvery = 2 * time.Second
	// guardPatience is a little less than Try's own: the guard sees more.
	guardPatience = patience - 10*time.Second
	// ticks are the kernel's, per second, in /proc.
	ticks = 100
)

// guard watches over a host: a command that stands still is a failure of its test that says where client, daemon and keeper
// stood, whoever started it and whatever that one makes of it.
type guard struct {
	h    *Host
	stop chan struct{}
	wg   sync.WaitGroup
}

func (h *Host) guarded(limit time.Duration) *guard {
	g := &guard{h: h, stop: make(chan struct{})}
	g.wg.Go(func() {
		tick := time.NewTicker(min(guardEvery, limit))
		defer tick.Stop()
		for {
			select {
			case <-g.stop:
				return
			case <-tick.C:
				g.look(limit)
			}
		}
	})
	return g
}

func (g *guard) close() {
	close(g.stop)
	g.wg.Wait()
}

// look ends the commands that are too old.
func (g *guard) look(limit time.Duration) {
	for _, pid := range g.h.clients() {
		if age, err := ageOf(pid); err != nil || age < limit {
			continue
		}
		g.h.t.Errorf("a command stands still:\n%s", g.h.evidence(pid))
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by the first signal
	}
}

// clients are the host's kist and docker commands.
func (h *Host) clients() []int {
	var all []int
	for _, program := range []string{"kist", "docker"} {
		pids, err := h.Processes(program)
		if err != nil {
			return nil // the host is ending
		}
		all = append(all, pids...)
	}
	keepers, _ := h.Processes("kist", "keeper")
	return slices.DeleteFunc(all, func(pid int) bool { return slices.Contains(keepers, pid) })
}

// ageOf is how long a process has been there.
func ageOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, fmt.Errorf("stat of pid %d: %q", pid, stat)
	}
	began, err := strconv.ParseFloat(fields[19], 64)
	if err != nil {
		return 0, err
	}
	word, _, _ := strings.Cut(string(up), " ")
	now, err := strconv.ParseFloat(word, 64)
	return time.Duration((now - began/ticks) * float64(time.Second)), err
}

// evidence has the client, the daemon and the keeper write their stacks, which ends them, and returns what they wrote.
func (h *Host) evidence(client int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pid %d: %s\n", client, commandLine(client))
	// A client that passes its signals on writes no stack; what it waits for is in these.
	for _, file := range []string{"wchan", "syscall", "stack"} {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", client, file))
		fmt.Fprintf(&b, "%s: %s\n", file, strings.TrimSpace(string(raw)))
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", client))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		fmt.Fprintf(&b, "fd %s: %s\n", filepath.Base(fd), to)
	}
	daemons, _ := h.Processes("kistd")
	keepers, _ := h.Processes("kist", "keeper")
	for _, pid := range slices.Concat([]int{client}, daemons, keepers) {
		_ = syscall.Kill(pid, syscall.SIGQUIT) // it may have ended
	}
	time.Sleep(500 * time.Millisecond)
	for _, log := range []string{
		filepath.Join(h.Dir, "kistd.log"), filepath.Join(h.Dir, "data", "kistd.log"), filepath.Join(h.run, "keeper", "keeper.log"),
	} {
		if raw, err := os.ReadFile(log); err == nil {
			fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(log), raw)
		}
	}
	return b.String()
}

func commandLine(pid int) string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.ReplaceAll(strings.TrimSuffix(string(raw), "\x00"), "\x00", " ")
}
