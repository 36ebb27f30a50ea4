package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/testbed"
)

// asker sends questions from inside a container to the name server in its resolv.conf, a few at a time.
type asker struct {
	conn    net.Conn
	packets [][]byte
	again   int // questions that were asked twice
}

const (
	window   = 8
	patience = 5 * time.Second // a resolver's
)

// newAsker connects from the network namespace of a container, and prepares a question for each name.
func newAsker(p *program, container string, names []string) (*asker, error) {
	pid, err := p.out("inspect", "-f", "{{.State.Pid}}", container)
	if err != nil {
		return nil, err
	}
	a := &asker{}
	for i, name := range names {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(i), RecursionDesired: true}, Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		}}
		packet, err := m.Pack()
		if err != nil {
			return nil, err
		}
		a.packets = append(a.packets, packet)
	}
	return a, p.host.Inside(func() error {
		ns, err := os.Open("/proc/" + pid + "/ns/net")
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		a.conn, err = net.Dial("udp", "127.0.0.11:53")
		return err
	})
}

// burst asks a window of questions, as a resolver does: those that are not answered in time are asked once more. It counts
// those that are then not answered with an address.
func (a *asker) burst(turn int) (failed int, err error) {
	open := map[byte][]byte{} // by the low byte of their ids
	for i := range window {
		p := a.packets[(turn+i)%len(a.packets)]
		open[p[1]] = p
	}
	buf := make([]byte, 1500)
	for range 2 {
		for _, p := range open {
			if _, err := a.conn.Write(p); err != nil {
				return 0, err
			}
		}
		if err := a.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return 0, err
		}
		for len(open) > 0 {
			n, err := a.conn.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				a.again += len(open)
				break
			}
			if err != nil {
				return failed, err
			}
			if _, asked := open[buf[1]]; !asked || n < 12 {
				continue
			}
			delete(open, buf[1])
			if buf[3]&0xf != 0 || buf[7] == 0 {
				failed++
			}
		}
	}
	return failed + len(open), nil
}

// askAll has the askers ask total questions.
func askAll(askers []*asker, total int64) (failed int64, bursts []time.Duration, err error) {
	var left, bad atomic.Int64
	left.Store(total)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, a := range askers {
		wg.Go(func() {
			var times []time.Duration
			for turn := 0; left.Add(-window) >= 0; turn += window {
				begin := time.Now()
				n, burstErr := a.burst(turn)
				times = append(times, time.Since(begin))
				bad.Add(int64(n))
				if burstErr != nil {
					mu.Lock()
					err = errors.Join(err, burstErr)
					mu.Unlock()
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			bursts = append(bursts, times...)
		})
	}
	wg.Wait()
	slices.Sort(bursts)
	return bad.Load(), bursts, err
}

// neighbours starts containers on a network of their own, and askers in some of them.
func neighbours(p *program, count, asking int) (names []string, askers []*asker, err error) {
	if err := p.do("network", "create", "street"); err != nil {
		return nil, nil, err
	}
	for i := range count {
		names = append(names, fmt.Sprintf("house%d", i))
		if err := p.do("run", "-d", "--name", names[i], "--network", "street", busybox, "sleep", "100000"); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range names[:asking] {
		a, err := newAsker(p, name, names)
		if err != nil {
			return nil, nil, err
		}
		askers = append(askers, a)
	}
	return names, askers, nil
}

func TestDNS(t *testing.T) {
	want(t, "dns")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	contest := map[string]*program{"kist": k}
	if d, err := docker(t); err == nil && loaded(t, d, testbed.Busybox) == nil {
		contest["docker"] = d
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\ndns: names of containers on one network, 2 clients with %d questions on their way each\n%-10s %12s %12s %12s %8s\n",
		window, "", "lookups/s", "median", "p99", "failed")
	var houses []string
	var askers []*asker
	for _, name := range []string{"kist", "docker"} {
		p := contest[name]
		if p == nil {
			continue
		}
		all, some, err := neighbours(p, 10, 2)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "kist" {
			houses, askers = all, some
		}
		begin := time.Now()
		const total = 200_000
		failed, bursts, err := askAll(some, total)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		fmt.Fprintf(&b, "%-10s %12.0f %12s %12s %8d\n", name, total/time.Since(begin).Seconds(), quantile(bursts, 0.5)/window, quantile(bursts, 0.99), failed)
	}
	t.Log(b.String())
	if len(askers) > 0 {
		unsettled(t, k, houses, askers)
	}
}

// unsettled asks a million questions while what is asked for is restarted, killed and started, and the daemon killed.
func unsettled(t *testing.T, k *program, houses []string, askers []*asker) {
	done := make(chan struct{})
	restarts := make(chan int)
	go func() {
		n := 0
		defer func() { restarts <- n }()
		for ; ; n++ {
			name := houses[len(askers)+n%(len(houses)-len(askers))]
			var err error
			switch {
			case n == 20 || n == 40:
				err = killDaemon(k)
			case n%3 == 2:
				if err = k.do("kill", name); err == nil {
					err = k.do("start", name)
				}
			default:
				err = k.do("restart", "-t", "0", name)
			}
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	const total = 1_000_000
	begin := time.Now()
	failed, bursts, err := askAll(askers, total)
	close(done)
	n := <-restarts
	if err != nil || failed > 0 {
		t.Errorf("%d of %d lookups failed: %v", failed, total, err)
	}
	again := 0
	for _, a := range askers {
		again += a.again
	}
	t.Logf("dns: %d lookups in %s during %d restarts, 2 of them of the daemon by SIGKILL: %d failed, %d asked twice, p99 of %d at a time %s",
		total, time.Since(begin).Round(time.Millisecond), n, failed, again, window, quantile(bursts, 0.99))
}

// killDaemon ends the host's daemon without a word; the next command starts another one.
func killDaemon(k *program) error {
	pids, err := k.host.Processes("kistd")
	if err != nil {
		return err
	}
	for _, pid := range pids {
		err = errors.Join(err, unix.Kill(pid, unix.SIGKILL))
	}
	for err == nil && len(pids) > 0 {
		time.Sleep(time.Millisecond)
		pids, err = k.host.Processes("kistd")
	}
	return errors.Join(err, k.do("version"))
}
