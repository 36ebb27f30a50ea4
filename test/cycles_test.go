package test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

var (
	cycles    = flag.Int("cycles", 500, "cycles of TestCycles")
	cycleSeed = flag.Uint64("cycle-seed", 1, "seed of TestCycles' kills")
)

// TestCycles creates, starts and removes 500 containers, on networks of their own, with published ports and volumes, while the
// daemon and the keeper are killed. Afterwards the host is as it was: no interface, address, route, rule, namespace, mount,
// group or file of a container is left.
func TestCycles(t *testing.T) {
	if testing.Short() {
		t.Skip("skip: -short")
	}
	h := testbed.NewHost(t)
	needBin(t)
	wasMounts, wasNet := h.Run("cat", "/proc/self/mounts"), netState(h)
	b := &crashBed{t: t, h: h, daemon: h.StartDaemon(), acked: map[string]*promise{}}
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))

	c := &cycler{bed: b, left: *cycles}
	var workers sync.WaitGroup
	for n := range 4 {
		workers.Go(func() { c.work(n) })
	}
	done := make(chan struct{})
	go func() { workers.Wait(); close(done) }()
	kills := b.killUntil(done, rand.New(rand.NewPCG(*cycleSeed, 0)))
	t.Logf("%d cycles: %d started; %d commands failed while something was dead and were given again; %d kills", *cycles, c.started.Load(), c.failed.Load(), kills)

	c.removeAll()
	await(t, "nothing is left but what the daemon keeps ready", func() bool { return remains(h) == "" })
	b.daemon.Stop()
	h.Run("kistd", "--teardown")
	if err := h.KillKeeper(); err != nil { // It goes by itself when it has nothing to keep; here nothing shall wait for that.
		t.Error(err)
	}
	if is := netState(h); is != wasNet {
		t.Errorf("the host's network was\n%s\nand is\n%s", wasNet, is)
	}
	if is := h.Run("cat", "/proc/self/mounts"); is != wasMounts {
		t.Errorf("the host's mounts were\n%s\nand are\n%s", wasMounts, is)
	}
	await(t, "nothing is left", func() bool { return remains(h) == "" }) // The keeper's body is reaped by the host.
	if ns := namespaces(h); len(ns) != 1 {
		t.Errorf("network namespaces of processes and files: %v, want the host's only", ns)
	}
}

// netState is what a host has of interfaces, addresses, routes and firewall rules.
func netState(h *testbed.Host) string {
	var all strings.Builder
	for _, args := range [][]string{
		{"ip", "-o", "link", "show"},
		{"ip", "-o", "addr", "show"},
		{"ip", "route", "show", "table", "all"},
		{"ip", "-6", "route", "show", "table", "all"},
		{"ip", "rule"},
		{"nft", "list", "ruleset"},
	} {
		fmt.Fprintf(&all, "%s\n%s\n", strings.Join(args, " "), h.Run(args[0], args[1:]...))
	}
	return all.String()
}

// namespaces are the network namespaces that the host's processes are in or hold open.
func namespaces(h *testbed.Host) map[string]bool {
	found := map[string]bool{}
	out, _ := h.Try("sh", "-c", "readlink /proc/[0-9]*/ns/net /proc/[0-9]*/fd/* | grep '^net:'")
	for line := range strings.Lines(out) {
		found[strings.TrimSpace(line)] = true
	}
	return found
}

// killUntil kills the daemon, the keeper or both every now and then, and counts.
func (b *crashBed) killUntil(done <-chan struct{}, r *rand.Rand) (kills int) {
	for {
		select {
		case <-done:
			return kills
		case <-time.After(time.Duration(r.IntN(600)) * time.Millisecond):
		}
		what := r.IntN(3)
		if what != 0 {
			b.killKeeper()
		}
		if what != 1 {
			b.daemon.Kill()
			b.daemon = b.h.StartDaemon()
		}
		kills++
	}
}

// cycler makes and removes containers, each worker on a network of its own that comes and goes too.
type cycler struct {
	bed             *crashBed
	mu              sync.Mutex
	left            int
	started, failed atomic.Int64
}

func (c *cycler) next() (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	return c.left, c.left >= 0
}

func (c *cycler) work(worker int) {
	for {
		n, more := c.next()
		if !more {
			return
		}
		name, network := "c"+strconv.Itoa(n), fmt.Sprintf("net%d-%d", worker, n/40)
		args := []string{"create", "--name", name, "-v", "/data"}
		switch n % 4 {
		case 0, 1:
			c.insist("already exists", "network", "create", network)
			args = append(args, "--network", network, "--network-alias", "some"+strconv.Itoa(n%7))
		case 2:
			args = append(args, "-v", "vol"+strconv.Itoa(worker)+":/vol")
		}
		c.insist("already in use", append(args, "-p", strconv.Itoa(20000+n)+":80", "kist.test/busybox", "sleep", "1000")...)
		if c.insist("", "start", name) {
			c.started.Add(1)
		}
		c.insist("", "rm", "-f", "-v", name)
		if n%40 < 2 {
			_, _ = c.bed.kist("network", "rm", network) // Another cycle may have it.
		}
	}
}

// insist runs a command until the daemon lives long enough to do it, or says that it has been done.
func (c *cycler) insist(done string, args ...string) bool {
	var err error
	for range 200 {
		if _, err = c.bed.kist(args...); err == nil {
			return true
		}
		c.failed.Add(1)
		if done != "" && strings.Contains(explained(err).Error(), done) {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.bed.t.Errorf("kist %s: %v", strings.Join(args, " "), explained(err))
	return false
}

// removeAll removes what a command could not because the daemon was dead: containers, networks, volumes.
func (c *cycler) removeAll() {
	t := c.bed.t
	t.Helper()
	if out, err := c.bed.kist("ps", "-aq"); err != nil {
		t.Fatal(explained(err))
	} else if out != "" {
		if _, err := c.bed.kist(append([]string{"rm", "-f", "-v"}, strings.Fields(out)...)...); err != nil {
			t.Error(explained(err))
		}
	}
	for _, args := range [][]string{{"network", "prune", "-f"}, {"volume", "prune", "-a", "-f"}} {
		if _, err := c.bed.kist(args...); err != nil {
			t.Errorf("%v: %v", args, explained(err))
		}
	}
	if out, err := c.bed.kist("volume", "ls", "-q"); err != nil || out != "" {
		t.Errorf("volumes are left: %s %v", out, err)
	}
}
