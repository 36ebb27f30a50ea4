package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// via is the same daemon by another socket.
func (c *apiClient) via(socket string) *apiClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &apiClient{t: c.t, host: c.host, http: &http.Client{Transport: transport}}
}

// TestNarrowSockets asks for the same things by a read-only socket and by one limited to a project.
func TestNarrowSockets(t *testing.T) {
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
	h := testbed.NewHost(t)
	readSocket, shopSocket := filepath.Join(h.Dir, "read.sock"), filepath.Join(h.Dir, "shop.sock")
	h.StartDaemon("--socket", "path="+readSocket+",read-only,mode=0600", "--socket", "path="+shopSocket+",project=shop,bind="+h.Dir)
	for path, mode := range map[string]os.FileMode{readSocket: 0o600, shopSocket: 0o660} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != mode {
			t.Errorf("%s: %v", path, fi.Mode())
		}
	}
	whole := (&apiClient{t: t, host: h}).via(h.Socket())
	read, shop := whole.via(readSocket), whole.via(shopSocket)
	h.Run("kist", "load", "-q", "-i", testbed.Recipes()["busybox"].MustArchive(t))
	const wait = `trap exit TERM; while :; do sleep 0.1; done`
	h.Run("kist", "run", "-d", "--name", "other", "-v", "other:/v", busybox, "sh", "-c", wait)
	h.Run("kist", "network", "create", "other")
	h.Run("kist", "network", "create", "--label", "com.docker.compose.project=shop", "shop_default")
	h.Run("kist", "run", "-d", "--name", "shop-web-1", "--label", "com.docker.compose.project=shop", "--network", "shop_default", busybox, "sh", "-c", wait)
	otherID := strings.TrimSpace(h.Run("kist", "inspect", "-f", "{{.Id}}", "other"))
	otherExec := strings.TrimSpace(field(t, whole.do("POST", "/containers/other/exec", `{"Cmd":["true"]}`).body, "Id"))

	create := func(host string) string {
		return `{"Image":"` + busybox + `","Cmd":["true"],"HostConfig":` + host + `}`
	}
	for _, c := range []struct {
		op, body      string
		read, project int
		words         string // in the project's answer
	}{
		{"GET /_ping", "", 200, 200, "OK"},
		{"GET /v1.41/version", "", 200, 200, ""},
		{"GET /info", "", 200, 200, `"Containers":1`},
		{"GET /system/df", "", 200, 403, ""},
		{"GET /containers/json?all=1", "", 200, 200, "shop-web-1"},
		{"GET /images/json", "", 200, 200, "busybox"},
		{"GET /containers/other/json", "", 200, 404, "No such container: other"},
		{"GET /containers/" + otherID[:12] + "/json", "", 200, 404, ""},
		{"GET /containers/shop-web-1/json", "", 200, 200, "shop-web-1"},
		{"GET /containers/other/logs?stdout=1", "", 200, 404, ""},
		{"GET /containers/other/archive?path=/etc/hostname", "", 200, 404, ""},
		{"GET /containers/other/export", "", 200, 404, ""},
		{"GET /containers/other/top", "", 200, 404, ""},
		{"GET /exec/" + otherExec + "/json", "", 200, 404, "No such exec"},
		{"POST /exec/" + otherExec + "/start", `{"Detach":true}`, 403, 404, ""},
		{"GET /networks/other", "", 200, 404, "network other not found"},
		{"GET /networks/shop_default", "", 200, 200, ""},
		{"GET /volumes/other", "", 200, 404, ""},
		{"GET /volumes", "", 200, 200, `"Volumes":[]`},
		{"GET /kist/volumes/other/archive", "", 200, 404, ""},
		{"GET /distribution/x/json", "", 403, 403, ""},
		{"GET /images/search?term=x", "", 403, 403, ""},
		{"GET /nosuch", "", 404, 404, "page not found"},
		{"GET /swarm", "", 503, 503, ""},
		{"POST /containers/other/attach?stream=1&stdin=1", "", 403, 404, ""},
		{"POST /containers/other/kill", "", 403, 404, ""},
		{"POST /containers/other/restart", "", 403, 404, ""},
		{"POST /containers/other/exec", `{"Cmd":["true"]}`, 403, 404, ""},
		{"PUT /containers/other/archive?path=/", "", 403, 404, ""},
		{"DELETE /containers/other?force=1", "", 403, 404, ""},
		{"DELETE /volumes/other", "", 403, 404, ""},
		{"DELETE /networks/other", "", 403, 404, ""},
		{"POST /networks/other/connect", `{"Container":"shop-web-1"}`, 403, 404, ""},
		{"POST /networks/shop_default/connect", `{"Container":"other"}`, 403, 404, ""},
		{"DELETE /images/" + busybox, "", 403, 403, ""},
		{"POST /images/" + busybox + "/tag?repo=x", "", 403, 403, ""},
		{"POST /images/load", "", 403, 403, ""},
		{"POST /images/create?fromSrc=-", "", 403, 403, ""},
		{"POST /images/prune", "", 403, 403, ""},
		{"POST /build", "", 403, 403, ""},
		{"POST /session", "", 403, 403, ""},
		{"POST /grpc", "", 403, 403, ""},
		{"POST /commit?container=shop-web-1", "{}", 403, 403, ""},
		{"POST /kist/build", "{}", 403, 403, ""},
		{"POST /auth", "{}", 403, 403, ""},
		{"POST /containers/create?name=c1", create(`{"NetworkMode":"shop_default"}`), 403, 201, ""},
		{"POST /containers/create", create(`{}`), 403, 403, "everybody's"},
		{"POST /containers/create", create(`{"NetworkMode":"other"}`), 403, 404, "network other not found"},
		{"POST /containers/create", create(`{"NetworkMode":"none","Privileged":true}`), 403, 403, "privileged"},
		{"POST /containers/create", create(`{"NetworkMode":"none","Binds":["/:/host"]}`), 403, 403, "mounting /"},
		{"POST /containers/create", create(`{"NetworkMode":"none","Binds":["` + h.Dir + `:/host"]}`), 403, 201, ""},
		{"POST /containers/create", create(`{"NetworkMode":"none","Binds":["other:/x"]}`), 403, 403, "not the project's"},
		{"POST /containers/create", create(`{"NetworkMode":"none","Binds":["fresh:/x"]}`), 403, 201, ""},
		{"GET /volumes/fresh", "", 200, 200, `"com.docker.compose.project":"shop"`},
		{"POST /containers/shop-web-1/exec", `{"Cmd":["true"],"Privileged":true}`, 403, 403, "privileged"},
		{"POST /containers/shop-web-1/exec", `{"Cmd":["true"]}`, 403, 201, ""},
		{"POST /networks/create", `{"Name":"shop_back"}`, 403, 201, ""},
		{"POST /networks/create", `{"Name":"shop_mac","Driver":"macvlan"}`, 403, 403, ""},
		{"POST /volumes/create", `{"Name":"shop_v"}`, 403, 201, `"com.docker.compose.project":"shop"`},
		{"POST /volumes/create", `{"Name":"other"}`, 403, 403, ""},
		{"POST /volumes/create", `{"Name":"shop_x","DriverOpts":{"type":"none","device":"/","o":"bind"}}`, 403, 403, ""},
		{"POST /networks/shop_back/connect", `{"Container":"shop-web-1"}`, 403, 200, ""},
		{"POST /containers/shop-web-1/rename?name=shop-web-2", "", 403, 204, ""},
		{"POST /containers/prune", "", 403, 200, ""},
		{"POST /volumes/prune?filters=%7B%22all%22:[%221%22]%7D", "", 403, 200, ""},
		{"POST /containers/shop-web-2/stop?t=1", "", 403, 204, ""},
		{"DELETE /containers/shop-web-2", "", 403, 204, ""},
		{"POST /networks/prune", "", 403, 200, ""},
	} {
		method, path, _ := strings.Cut(c.op, " ")
		a := read.do(method, path, c.body)
		if a.status != c.read {
			t.Errorf("read-only: %s %s: %d %s, want %d", c.op, c.body, a.status, a.body, c.read)
		}
		if bad := a.wellFormed(); a.status == 403 && (bad != "" || !strings.Contains(a.body, `"socket-scope"`)) {
			t.Errorf("read-only: %s: %s %s", c.op, bad, a.body)
		}
		a = shop.do(method, path, c.body)
		if a.status != c.project || !strings.Contains(a.body, c.words) {
			t.Errorf("project: %s %s: %d %s, want %d %s", c.op, c.body, a.status, a.body, c.project, c.words)
		}
		if strings.HasPrefix(c.op, "GET ") && a.status == 200 && strings.Contains(a.body, otherID) {
			t.Errorf("project: %s tells of the other container", c.op)
		}
	}
	// What is not the project's is still there.
	for _, path := range []string{"/containers/other/json", "/networks/other", "/volumes/other"} {
		if a := whole.do("GET", path, ""); a.status != 200 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if got := field(t, whole.do("GET", "/containers/other/json", "").body, "State", "Running"); got != "true" {
		t.Errorf("the other container runs: %s", got)
	}
	// kist's own command by such a socket: nothing goes another way.
	for _, by := range []string{"KIST_HOST", "DOCKER_HOST"} {
		cmd := h.Command("kist", "run", "--rm", busybox, "true")
		cmd.Env = append(cmd.Environ(), by+"=unix://"+shopSocket)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "[socket-scope]") {
			t.Errorf("kist run with %s: %s, %v", by, out, err)
		}
	}
	if out, err := h.Try("kist", "-H", "unix://"+shopSocket, "run", "--rm", "--network", "none", busybox, "echo", "ok"); err != nil || out != "ok" {
		t.Errorf("kist run --network none: %q, %v", out, err)
	}
	// Events of the project only.
	h.Run("kist", "run", "--rm", "--name", "unseen", busybox, "true")
	h.Run("kist", "run", "--rm", "--name", "seen", "--label", "com.docker.compose.project=shop", busybox, "true")
	events := shop.do("GET", fmt.Sprintf("/events?since=1&until=%d", time.Now().Unix()+1), "").body
	if !strings.Contains(events, `"seen"`) || strings.Contains(events, `"unseen"`) || strings.Contains(events, otherID) {
		t.Errorf("events of the project: %s", events)
	}
	calls := readCalls(t, h)
	for _, want := range []string{
		"kist RUN 201 front.sock", "kist POST 201 kist.sock", " POST 403 read.sock", " DELETE 204 shop.sock", // This process is none of the host's.
	} {
		if !calls[want] {
			t.Errorf("nobody is said to have called: %s; there is %v", want, calls)
		}
	}
}

// readCalls reads the log of calls: program, method, status and socket of each.
func readCalls(t *testing.T, h *testbed.Host) map[string]bool {
	t.Helper()
	f, err := os.Open(filepath.Join("/proc", fmt.Sprint(h.PID()), "root", h.Dir, "data", "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var c struct {
			Program, Method, Socket string
			Status                  int
			UID                     *int
		}
		if err := json.Unmarshal(s.Bytes(), &c); err != nil || c.UID == nil || *c.UID != 0 {
			t.Errorf("%s: %v", s.Text(), err)
		}
		seen[fmt.Sprintf("%s %s %d %s", c.Program, c.Method, c.Status, filepath.Base(c.Socket))] = true
	}
	return seen
}

// field reads a value out of JSON.
func field(t *testing.T, raw string, path ...string) string {
	t.Helper()
	r := reply{body: []byte(raw)}
	return r.field(path...)
}

// TestComposeOnItsSocket has docker compose bring a project up, use it and take it down by the socket that is limited to it.
func TestComposeOnItsSocket(t *testing.T) {
	compose := testbed.Tool("docker-compose")
	if compose == "" {
		t.Skip("skip: docker compose is not built; run scripts/clients")
	}
	h := testbed.NewHost(t)
	socket, dir := filepath.Join(h.Dir, "shop.sock"), filepath.Join(h.Dir, "shop")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := `
name: shop
services:
  web:
    image: ` + busybox + `
    command: ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]
    volumes: ["data:/data", "` + dir + `:/b:ro"]
    healthcheck: {test: ["CMD", "test", "-e", "/b/compose.yaml"], interval: 100ms}
    secrets: [word]
  job:
    image: ` + busybox + `
    command: ["sh", "-c", "getent hosts web || nslookup web; echo done"]
    depends_on: {web: {condition: service_healthy}}
volumes: {data: {}}
secrets: {word: {environment: WORD}}
`
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.StartDaemon("--socket", "path="+socket+",project=shop,bind="+dir+":ro")
	h.Run("kist", "load", "-q", "-i", testbed.Recipes()["busybox"].MustArchive(t))
	run := func(args ...string) (string, error) {
		cmd := h.Command(compose, append([]string{"-f", filepath.Join(dir, "compose.yaml")}, args...)...)
		cmd.Env = append(cmd.Environ(), "DOCKER_HOST=unix://"+socket, "WORD=secret")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, step := range []struct{ args, words string }{
		{"up -d --scale web=2", "Started"},
		{"ps -a", "shop-web-2"},
		{"logs job", "done"},
		{"exec -T web cat /run/secrets/word", "secret"},
		{"restart -t 1 web", ""},
		{"down -v -t 1", "Removed"},
	} {
		if out, err := run(strings.Fields(step.args)...); err != nil || !strings.Contains(out, step.words) {
			t.Fatalf("compose %s: %v\n%s", step.args, err, out)
		}
	}
	if out, err := run("-p", "bank", "up", "-d"); err == nil || !strings.Contains(out, "limited to the project shop") {
		t.Errorf("another project by this socket: %v\n%s", err, out)
	}
	if out := h.Run("kist", "ps", "-aq"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}
