package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// rollingFile is a web server that takes a moment until it answers, and a client that asks it by its name all the time. The file
// of a version that never gets well lacks the page that the check asks for.
const rollingFile = `
name: roll
services:
  web:
    image: kist.test/busybox
    command: ["sh", "-c", "mkdir /www; echo %[1]s >/www/%[2]s; sleep 0.4; exec httpd -f -p 80 -h /www"]
    ports: ["8080:80", "127.0.0.1:8443:80"]
    scale: 1
    stop_grace_period: 2s
    healthcheck: {test: "wget -q -O- http://127.0.0.1/index.html", interval: 100ms, retries: 8, start_period: 1s, start_interval: 100ms}
    networks: {default: {aliases: [shop]}}
  client:
    image: kist.test/busybox
    command: ["sh", "-c", "while :; do for name in web shop; do timeout 5 wget -q -O- http://$$name/index.html || echo FAILED $$name; done; done"]
    stop_grace_period: 0s
    depends_on: {web: {condition: service_healthy}}
`

// hammer asks for a page over and over, each time with a new connection, and counts the answers.
type hammer struct {
	mu      sync.Mutex // guards what follows
	answers map[string]int
	failed  []string
}

func (h *hammer) run(ctx context.Context, host *testbed.Host, url string) error {
	return host.Inside(func() error {
		// The thread is in the host's network; a connection is made on it, so it is made here and not by a transport.
		for ctx.Err() == nil {
			text, err := ask(url)
			h.mu.Lock()
			if err != nil {
				h.failed = append(h.failed, fmt.Sprintf("%s: %v", time.Now().Format("05.000"), err))
			} else {
				h.answers[text]++
			}
			h.mu.Unlock()
		}
		return nil
	})
}

// ask makes one request on this thread: what the net package dials on another one would be in another network.
func ask(addr string) (string, error) {
	d := net.Dialer{Timeout: 5 * time.Second, FallbackDelay: -1}
	conn, err := d.Dial("tcp4", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/index.html", nil)
	if err != nil {
		return "", err
	}
	if err := r.Write(conn); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	head, body, _ := strings.Cut(string(b), "\r\n\r\n")
	if !strings.Contains(head, " 200 ") {
		return "", fmt.Errorf("answer: %.80q", b)
	}
	return strings.TrimSpace(body), nil
}

func (h *hammer) seen(answer string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answers[answer]
}

// TestComposeRolling updates a service while others use its published port and its name: no request fails, neither with a
// version that works nor with one that does not.
func TestComposeRolling(t *testing.T) {
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist-compose")); err != nil {
		t.Skip("skip: bin/kist-compose is not built; run make build")
	}
	h := testbed.NewHost(t)
	h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	file := filepath.Join(h.Dir, "compose.yaml")
	write := func(version, page string) {
		if err := os.WriteFile(file, fmt.Appendf(nil, rollingFile, version, page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one", "index.html")
	h.Run("kist", "compose", "-f", file, "up", "-d", "--wait")
	id := strings.TrimSpace(h.Run("kist", "compose", "-f", file, "ps", "-q", "web"))

	ctx, stop := context.WithCancel(t.Context())
	hammers := map[string]*hammer{"127.0.0.1:8080": {answers: map[string]int{}}, "127.0.0.1:8443": {answers: map[string]int{}}}
	var wg sync.WaitGroup
	for addr, one := range hammers {
		wg.Go(func() {
			if err := one.run(ctx, h, addr); err != nil {
				t.Error(err)
			}
		})
	}
	port := hammers["127.0.0.1:8080"]
	wait := func(answer string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); port.seen(answer) < 20; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%q is not answered: %v %v", answer, port.answers, port.failed)
			}
		}
	}
	wait("one")
	write("two", "index.html")
	out, err := h.Try("kist", "compose", "-f", file, "up", "-d", "--rolling")
	t.Log(out)
	if err != nil {
		t.Fatal(err)
	}
	wait("two")
	if now := strings.TrimSpace(h.Run("kist", "compose", "-f", file, "ps", "-q", "web")); now == id {
		t.Error("the container is still the old one")
	} else {
		id = now
	}
	write("three", "other.html")
	out, err = h.Try("kist", "compose", "-f", file, "up", "-d", "--rolling")
	if err == nil || !strings.Contains(err.Error()+out, "web-1 is not updated, the container that was there goes on") {
		t.Errorf("a version that is never healthy: %v\n%s", err, out)
	}
	if now := strings.TrimSpace(h.Run("kist", "compose", "-f", file, "ps", "-q", "web")); now != id {
		t.Error("the container is not the one that there was")
	}
	// An update of all, without a change: everything is replaced once more.
	write("two", "index.html")
	h.Run("kist", "compose", "-f", file, "up", "-d", "--rolling", "--force-recreate", "web")
	stop()
	wg.Wait()
	for addr, one := range hammers {
		t.Logf("%s: %v", addr, one.answers)
		if len(one.failed) > 0 {
			t.Errorf("%s: %d requests failed: %s", addr, len(one.failed), strings.Join(one.failed[:min(len(one.failed), 5)], "; "))
		}
	}
	logs := h.Run("kist", "compose", "-f", file, "logs", "--no-log-prefix", "client")
	if n := strings.Count(logs, "FAILED"); n > 0 {
		t.Errorf("%d requests by name failed", n)
	}
	if !strings.Contains(logs, "one") || !strings.Contains(logs, "two") || strings.Contains(logs, "three") {
		t.Errorf("the client has not seen both versions, or one that it should not: %.200s", logs)
	}
	names := strings.Fields(h.Run("kist", "ps", "-a", "--format", "{{.Names}}"))
	if len(names) != 2 || !strings.Contains(strings.Join(names, " "), "roll-web-1") {
		t.Errorf("containers at the end: %v", names)
	}
	if ports := h.Run("kist", "compose", "-f", file, "port", "web", "80"); !strings.Contains(ports, ":8080") {
		t.Errorf("published: %s", ports)
	}
	h.Run("kist", "compose", "-f", file, "down", "-t", "0")
}
