package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// apiApp answers with how many visits its database has counted; webApp asks it. Both say it when a name was not found: that
// must never happen, while connections may fail as long as the other side restarts.
const (
	apiApp = `
import http.server, socket, psycopg2
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            address = socket.getaddrinfo("db", 5432, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
        except socket.gaierror as e:
            return self.answer(500, "LOOKUP of db: %s" % e)
        try:
            with psycopg2.connect(host=address, user="postgres", dbname="postgres", connect_timeout=3) as c, c.cursor() as q:
                q.execute("CREATE TABLE IF NOT EXISTS visits (n serial)")
                q.execute("INSERT INTO visits DEFAULT VALUES RETURNING n")
                self.answer(200, "visit %d" % q.fetchone()[0])
        except psycopg2.Error as e:
            self.answer(503, "database: %s" % e)
    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
`
	webApp = `
import http.server, socket, urllib.request, urllib.error
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            with urllib.request.urlopen("http://api:8000/", timeout=10) as r:
                self.answer(200, "page: " + r.read().decode())
        except urllib.error.HTTPError as e:
            self.answer(e.code, e.read().decode())
        except (urllib.error.URLError, OSError) as e:
            found = "LOOKUP of api: " if isinstance(getattr(e, "reason", e), socket.gaierror) else "api: "
            self.answer(503, found + str(e))
    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
`
	dbCommand = `echo 'host all all all trust' > /tmp/hba; exec /usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main ` +
		`-c config_file=/etc/postgresql/15/main/postgresql.conf -c listen_addresses='*' -c hba_file=/tmp/hba`
)

// TestThreeTiers runs a web page, an API and PostgreSQL on two networks, reached by name, and restarts and kills its parts, the
// firewall's rules and the daemon under load: no lookup fails, and in the end it answers as before, with nothing lost.
func TestThreeTiers(t *testing.T) {
	if testing.Short() {
		t.Skip("skip: -short")
	}
	image := testbed.Tiers.MustArchive(t)
	h := testbed.NewHost(t)
	d := h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", image)
	h.Run("kist", "network", "create", "front")
	h.Run("kist", "network", "create", "--internal", "back")
	run := func(name string, args ...string) {
		h.Run("kist", append([]string{"run", "-d", "--name", name, "--restart", "always"}, args...)...)
	}
	run("db", "--network", "back", "--user", "postgres", "-v", "data:/var/lib/postgresql", testbed.Tiers.Name, "sh", "-c", dbCommand)
	run("api", "--network", "back", "-e", "PYTHONUNBUFFERED=1", testbed.Tiers.Name, "python3", "-c", apiApp)
	h.Run("kist", "network", "connect", "front", "api")
	run("web", "--network", "front", "-p", "8080:8080", testbed.Tiers.Name, "python3", "-c", webApp)

	v := &visitors{h: h}
	if !v.answered(t, 60*time.Second) {
		t.Fatalf("it never answered; the last answer was %q\n%s", v.last.Load(), h.Run("kist", "ps", "-a"))
	}
	if out, err := h.Try("kist", "exec", "web", "getent", "hosts", "db"); err == nil {
		t.Errorf("web sees the database's network: %s", out)
	}
	stop := v.visit(t, 4)
	restart := func(name string) { h.Run("kist", "restart", "-t", "1", name) }
	crash := func(name string) { h.Run("kill", "-9", h.Run("kist", "inspect", "-f", "{{.State.Pid}}", name)) }
	for _, c := range []struct {
		about string
		what  func(string)
		name  string
	}{{"restart", restart, "api"}, {"crash", crash, "db"}, {"restart", restart, "web"}, {"crash", crash, "api"}, {"restart", restart, "db"}, {"crash", crash, "web"}} {
		c.what(c.name)
		if !v.answered(t, 30*time.Second) {
			t.Fatalf("after the %s of %s it does not answer: %q", c.about, c.name, v.last.Load())
		}
	}
	h.Run("nft", "flush", "ruleset")
	if !v.answered(t, 10*time.Second) {
		t.Errorf("after a flush of the ruleset it does not answer: %q", v.last.Load())
	}
	failed := v.failed.Load()
	d.Kill()
	time.Sleep(300 * time.Millisecond)
	h.StartDaemon()
	time.Sleep(time.Second)
	if n := v.failed.Load() - failed; n != 0 {
		t.Errorf("%d visits failed while the daemon was killed, the last with %q", n, v.last.Load())
	}
	stop()
	if n := v.lookups.Load(); n != 0 {
		t.Errorf("%d lookups failed: %q", n, v.lookup.Load())
	}
	t.Logf("%d visits, %d failed while something restarted, no lookup failed", v.all.Load(), v.failed.Load())
}

// visitors ask for the page again and again.
type visitors struct {
	h                    *testbed.Host
	all, failed, lookups atomic.Int64
	last, lookup         atomic.Value // the last failure; the last failed lookup
}

// visit starts n of them and returns what ends them.
func (v *visitors) visit(t *testing.T, n int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				v.one()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	stop = func() { cancel(); all.Wait() }
	t.Cleanup(stop)
	return stop
}

// answered says whether a whole page comes within some time.
func (v *visitors) answered(t *testing.T, within time.Duration) bool {
	t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if v.one() {
			return true
		}
	}
	return false
}

func (v *visitors) one() bool {
	v.all.Add(1)
	text, err := v.get()
	if err == nil && strings.HasPrefix(text, "page: visit ") {
		return true
	}
	if err != nil {
		text = err.Error()
	}
	v.failed.Add(1)
	v.last.Store(text)
	if strings.Contains(text, "LOOKUP") {
		v.lookups.Add(1)
		v.lookup.Store(text)
	}
	return false
}

func (v *visitors) get() (string, error) {
	var conn net.Conn
	err := v.h.Inside(func() (err error) {
		conn, err = net.DialTimeout("tcp", "127.0.0.1:8080", 5*time.Second)
		return err
	})
	if err != nil {
		return "", err
	}
	c := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
	resp, err := c.Get("http://web/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("read the page: %w", err)
	}
	return string(raw), nil
}
