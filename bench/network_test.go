package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/testbed"
)

// wired is a contestant of the network's measurements: two containers, of which the first answers on port 5201, published as
// the host's.
type wired struct {
	name         string
	host         *testbed.Host
	server, peer string // the two containers' network namespaces
	addr         string
	err          error

	between, published []float64 // Gbit/s
	request            []time.Duration
	through            []time.Duration
}

const wirePort = 5201

// inNet runs fn in a network namespace, on a thread that is not used again.
func inNet(path string, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// containersOf starts the two containers.
func containersOf(t *testing.T, name string, p *program, flags ...string) *wired {
	w := &wired{name: name, host: p.host}
	if w.err = loaded(t, p, testbed.Busybox); w.err != nil {
		return w
	}
	run := append([]string{"run", "-d"}, flags...)
	port := fmt.Sprintf("%d:%d", wirePort, wirePort)
	w.err = errors.Join(
		p.do(append(run, "--name", "server", "-p", port, busybox, "sleep", "100000")...),
		p.do(append(run, "--name", "peer", busybox, "sleep", "100000")...))
	ask := func(name, format string) string {
		if w.err != nil {
			return ""
		}
		var out string
		out, w.err = p.out("inspect", "-f", format, name)
		return out
	}
	// As the host numbers its processes.
	w.server = fmt.Sprintf("/proc/%d/root/proc/%s/ns/net", p.host.PID(), ask("server", "{{.State.Pid}}"))
	w.peer = fmt.Sprintf("/proc/%d/root/proc/%s/ns/net", p.host.PID(), ask("peer", "{{.State.Pid}}"))
	w.addr = ask("server", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
	return w
}

// byHand is the same wiring made with ip and nft.
func byHand(t *testing.T) *wired {
	h := testbed.NewHost(t)
	w := &wired{name: "ip and nft by hand", host: h, addr: "10.123.0.2"}
	w.server = fmt.Sprintf("/proc/%d/root/run/netns/hand2", h.PID())
	w.peer = fmt.Sprintf("/proc/%d/root/run/netns/hand3", h.PID())
	script := `set -e
mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns # this host's own names
ip link add hand0 type bridge; ip addr add 10.123.0.1/24 dev hand0; ip link set hand0 up
for n in 2 3; do
	ip netns add hand$n
	ip link add v$n type veth peer name eth0 netns hand$n
	ip link set v$n master hand0 up
	ip netns exec hand$n sh -c "ip link set lo up; ip addr add 10.123.0.$n/24 dev eth0; ip link set eth0 up; ip route add default via 10.123.0.1"
done
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv4/conf/hand0/route_localnet
nft "add table ip hand; add chain ip hand out { type nat hook output priority -100; }; add chain ip hand in { type nat hook prerouting priority -100; }; add chain ip hand post { type nat hook postrouting priority 100; }"
for c in in out; do nft add rule ip hand $c fib daddr type local tcp dport 5201 dnat to 10.123.0.2:5201; done
nft add rule ip hand post ip saddr 127.0.0.0/8 oifname hand0 masquerade
nft add rule ip hand post ip saddr 10.123.0.0/24 oifname != hand0 masquerade
`
	if out, err := h.Command("sh", "-c", script).CombinedOutput(); err != nil {
		w.err = fmt.Errorf("%w: %s", err, out)
	}
	return w
}

// iperf measures a second from a network namespace to an address.
func iperf(from, to string) (gbits float64, err error) {
	var out []byte
	err = inNet(from, func() error {
		out, err = exec.Command("timeout", "10", "iperf3", "-J", "-t", "1", "-c", to, "-p", strconv.Itoa(wirePort)).Output()
		return err
	})
	var r struct {
		End struct {
			Sum struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if bad := json.Unmarshal(out, &r); err == nil {
		err = bad
	}
	return r.End.Sum.Bits / 1e9, err
}

// throughput runs iperf3 as the server, and a round between the containers and one from the host.
func (w *wired) throughput() error {
	var server *exec.Cmd
	err := inNet(w.server, func() error {
		server = exec.Command("iperf3", "-s", "-p", strconv.Itoa(wirePort))
		return server.Start()
	})
	if err != nil {
		return err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	time.Sleep(200 * time.Millisecond)
	between, err := iperf(w.peer, w.addr)
	if err != nil {
		return fmt.Errorf("iperf3 between containers: %w", err)
	}
	published, err := iperf(fmt.Sprintf("/proc/%d/ns/net", w.host.PID()), "127.0.0.1")
	if err != nil {
		return fmt.Errorf("iperf3 through the published port: %w", err)
	}
	w.between, w.published = append(w.between, between), append(w.published, published)
	return nil
}

// latency makes requests of one connection each.
func (w *wired) latency(requests int) error {
	var ln net.Listener
	err := inNet(w.server, func() (err error) { ln, err = net.Listen("tcp4", fmt.Sprintf(":%d", wirePort)); return err })
	if err != nil {
		return err
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, io.LimitReader(c, 1))
			c.Close()
		}
	}()
	many := func(addr string, times *[]time.Duration) error {
		for range requests {
			begin := time.Now()
			if err := request(addr); err != nil {
				return err
			}
			*times = append(*times, time.Since(begin))
		}
		return nil
	}
	err = inNet(w.peer, func() error { return many(w.addr, &w.request) })
	return errors.Join(err, w.host.Inside(func() error { return many("127.0.0.1", &w.through) }))
}

func request(addr string) error {
	c, err := net.DialTimeout("tcp4", net.JoinHostPort(addr, strconv.Itoa(wirePort)), 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// TestNetwork measures what containers get through the wire, beside Docker and the same wiring made by hand.
func TestNetwork(t *testing.T) {
	want(t, "network")
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("skip: iperf3 is not installed")
	}
	own := kist(t)
	if err := own.do("network", "create", "app"); err != nil {
		t.Fatal(err)
	}
	list := []*wired{containersOf(t, "kist, network of one's own", own, "--network", "app"), containersOf(t, "kist, default network", kist(t)), byHand(t)}
	if d, err := docker(t); err != nil {
		list = append(list, &wired{name: "docker", err: err})
	} else {
		list = append(list, containersOf(t, "docker", d))
	}
	for range 3 {
		for _, w := range list {
			if w.err == nil {
				w.err = w.throughput()
			}
		}
	}
	for range 5 {
		for _, w := range list {
			if w.err == nil {
				w.err = w.latency(100)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nnetwork: iperf3, medians of 1 s each; a request is a connection, a byte there and one back\n%-28s %14s %14s %14s %14s\n",
		"", "between", "from host", "request", "from host")
	for _, w := range list {
		if w.err != nil {
			fmt.Fprintf(&b, "%-28s %v\n", w.name, w.err)
			continue
		}
		fmt.Fprintf(&b, "%-28s %9.1f Gb/s %9.1f Gb/s %14s %14s\n", w.name, middle(w.between), middle(w.published),
			ms(quantile(w.request, 0.5)), ms(quantile(w.through, 0.5)))
	}
	t.Log(b.String())
}

func middle(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

// TestPorts measures what ten thousand published ports add to a start. Docker starts a process for each.
func TestPorts(t *testing.T) {
	want(t, "ports")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	const ports = "20000-29999:20000-29999"
	rows := []*row{
		{name: "kist run -d, 10,000 ports", run: k.runner("run", "-d", "--name", "many", "-p", ports, busybox, "sleep", "1000")},
		{name: "kist rm -f", run: k.runner("rm", "-f", "many")},
		{name: "kist run -d", run: k.runner("run", "-d", "--name", "none", busybox, "sleep", "1000")},
		{name: "kist rm -f", run: k.runner("rm", "-f", "none")},
	}
	race(10, rows)
	report(t, "ports: whole commands", rows)
}
