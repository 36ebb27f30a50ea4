package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update-operations", false, "write testdata/operations.txt anew from Docker's description of its API")

var everyVersion = flag.Bool("every-version", false, "prove the operations in each version of the API that has a description, not in four")

// describedVersions are those of the module's descriptions.
func describedVersions(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(apiModule(t), "docs", "v1.*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("descriptions: %v, %v", files, err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "v"), ".yaml")
	}
	return files
}

// operationsFile lists the operations of Docker's API. Where it came from is written on top of it.
const operationsFile = "testdata/operations.txt"

// TestOperationsList compares the list with the description in the module that this tree is built with.
func TestOperationsList(t *testing.T) {
	want := "# Every operation of Docker's Engine API, from swagger.yaml of the Go module github.com/moby/moby/api.\n" +
		"# Made by: go test ./test -run TestOperationsList -update-operations\n" +
		strings.Join(describe(t, "").operations(), "\n") + "\n"
	if *update {
		if err := os.WriteFile(operationsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(operationsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the module's description has; write it anew with -update-operations", operationsFile)
	}
}

// listed reads the list.
func listed(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(operationsFile)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(raw)), "\n"), func(s string) bool { return s[0] == '#' })
}

// refusal is how an operation that is not served is answered.
type refusal struct {
	status int
	words  string
}

// TestOperations accounts for every operation of Docker's API: it is served, and its proof asks a daemon for it and compares
// the answer with Docker's description; or it is refused, with the answer that the table has.
func TestOperations(t *testing.T) {
	served, refused := provenOperations(), refusedOperations()
	list := listed(t)
	for _, op := range list {
		if _, ok := refused[op]; (served[op] != nil) == ok {
			t.Errorf("%s: want it in exactly one of the tables", op)
		}
	}
	for _, op := range slices.Concat(slices.Collect(maps.Keys(served)), slices.Collect(maps.Keys(refused))) {
		if !slices.Contains(list, op) {
			t.Errorf("%s: not an operation of Docker's", op)
		}
	}
	c := newAPI(t)
	m := &machine{t: t, host: c.host}
	m.serve(at5000, newStore())
	versions := []string{"1.25", "1.41", "1.51", ""}
	if *everyVersion {
		versions = describedVersions(t)
	}
	for _, version := range versions {
		t.Run("v"+version, func(t *testing.T) {
			d := describe(t, version)
			calls, proven, said := 0, 0, 0
			seen := map[string]bool{}
			for _, op := range list {
				if d.answers(op) == nil {
					continue // That version has no such operation.
				}
				t.Run(strings.ReplaceAll(op, "/", "\u2215"), func(t *testing.T) {
					p := &prover{t: t, c: c, d: d, prefix: "", strict: version == "", count: map[string]int{}, seen: seen}
					if version != "" {
						p.prefix = "/v" + version
					}
					if prove := served[op]; prove != nil {
						prove(p)
						if p.count[op] == 0 {
							t.Errorf("the proof never asked for it with success")
						}
						proven++
					} else {
						p.refused(op, refused[op])
						said++
					}
					for _, n := range p.count {
						calls += n
					}
				})
			}
			t.Logf("%d operations: %d served (%d calls compared with the description), %d refused by the table", proven+said, proven, calls, said)
			if testing.Verbose() {
				maps.DeleteFunc(seen, func(_ string, ok bool) bool { return ok })
				t.Logf("described but never seen: %s", strings.Join(slices.Sorted(maps.Keys(seen)), " "))
			}
		})
	}
}

// prover asks for operations and compares what comes with the description.
type prover struct {
	t      *testing.T
	c      *apiClient
	d      *description
	prefix string
	strict bool
	count  map[string]int // successful calls by operation
	seen   map[string]bool
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// field reads a value out of the answer: keys, and indexes of lists.
func (r *reply) field(path ...string) string {
	var v any
	dec := json.NewDecoder(bytes.NewReader(r.body))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return ""
	}
	for _, key := range path {
		switch at := v.(type) {
		case map[string]any:
			v = at[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(at) {
				return ""
			}
			v = at[i]
		default:
			return ""
		}
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func (p *prover) request(ctx context.Context, method, path string, body io.Reader, header map[string]string) *http.Response {
	p.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://kist"+p.prefix+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	if s, ok := body.(*strings.Reader); ok && s.Len() > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := p.c.http.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

// do sends JSON, wants a status, and compares the answer with the description.
func (p *prover) do(op, path, body string, status int) *reply {
	p.t.Helper()
	return p.send(op, path, strings.NewReader(body), nil, status)
}

func (p *prover) send(op, path string, body io.Reader, header map[string]string, status int) *reply {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	method, _, _ := strings.Cut(op, " ")
	resp := p.request(ctx, method, path, body, header)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	r := &reply{resp.StatusCode, resp.Header, raw}
	p.compare(op, path, r, status)
	return r
}

// compare checks status and shape of an answer.
func (p *prover) compare(op, path string, r *reply, status int) {
	p.t.Helper()
	name := op + " (" + path + ")"
	if r.status != status {
		p.t.Fatalf("%s: %d %s, want %d", name, r.status, r.body, status)
	}
	template := regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(op[strings.Index(op, "/"):], `[^?]+`)
	if !regexp.MustCompile("^" + template + `(\?|$)`).MatchString(path) {
		p.t.Fatalf("%s is not that operation", name)
	}
	answers := p.d.answers(op)
	described, ok := answers[strconv.Itoa(status)]
	if !ok && status != http.StatusBadRequest && status != http.StatusNotModified && (status != http.StatusForbidden || p.since(40)) {
		p.t.Errorf("%s: status %d is not in the description", name, status)
	}
	if status < 400 {
		p.count[op]++
	}
	if !ok || status == http.StatusNotModified || described == nil || described.Schema == nil || op[:4] == "HEAD" || described.Schema.Type == "string" {
		return
	}
	if kind := r.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		p.t.Errorf("%s: type %q, want JSON", name, kind)
		return
	}
	s := &shape{d: p.d, strict: p.strict && status < 400, seen: p.seen}
	s.check(r.body, described.Schema)
	for _, fault := range s.faults {
		if at, _, _ := strings.Cut(fault, ":"); p.since(40) || !slices.Contains(misdescribed, at) {
			p.t.Errorf("%s: %s", name, fault)
		}
	}
}

// misdescribed are fields that old descriptions have wrong, as their own examples and Docker's types show.
var misdescribed = []string{".NetworkSettings.Ports", ".HostConfig.RestartPolicy.Name", ".IPAM.Options", "[].IPAM.Options", ".Containers[]", ".ExecIDs"}

// refused asks for an operation that is not served.
func (p *prover) refused(op string, want refusal) {
	method, path, _ := strings.Cut(op, " ")
	body := ""
	if method == http.MethodPost || method == http.MethodPut {
		body = "{}"
	}
	path = placeholder.ReplaceAllString(path, "missing")
	resp := p.request(p.t.Context(), method, path, strings.NewReader(body), nil)
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	a := answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)}
	if a.status != want.status || !strings.Contains(a.body, want.words) {
		p.t.Errorf("%d %s, want %d %s", a.status, a.body, want.status, want.words)
	}
	if bad := a.wellFormed(); a.status >= 400 && bad != "" {
		p.t.Error(bad)
	}
}

// stream begins to read an answer that does not end by itself.
func (p *prover) stream(op, path string) *bufio.Reader {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	method, _, _ := strings.Cut(op, " ")
	resp := p.request(ctx, method, path, nil, nil)
	p.t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %d", op, resp.StatusCode)
	}
	p.count[op]++
	return bufio.NewReader(resp.Body)
}

// taken is a connection that the daemon has taken over from HTTP.
type taken struct {
	*net.UnixConn
	r    *bufio.Reader
	head *http.Response
}

func (p *prover) dial() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("unix", p.c.host.Socket())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	return conn
}

// take asks for an operation that takes the connection over.
func (p *prover) take(op, path, body, upgrade string, status int) *taken {
	p.t.Helper()
	conn := p.dial()
	method, _, _ := strings.Cut(op, " ")
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: d\r\n", method, p.prefix+path)
	if upgrade != "" {
		fmt.Fprintf(&head, "Connection: Upgrade\r\nUpgrade: %s\r\n", upgrade)
	}
	if body != "" {
		fmt.Fprintf(&head, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(conn, head.String()+"\r\n"+body); err != nil {
		p.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		p.t.Fatalf("%s: %v", op, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != status {
		raw, _ := io.ReadAll(resp.Body)
		p.t.Fatalf("%s: %d %s, want %d", op, resp.StatusCode, raw, status)
	}
	p.count[op]++
	return &taken{conn.(*net.UnixConn), r, resp}
}

const busybox = "kist.test/busybox"

// create makes a container that is removed after the test.
func (p *prover) create(more string) string {
	p.t.Helper()
	if more == "" {
		more = `"Cmd":["sh","-c","trap exit TERM; while :; do sleep 0.1; done"]`
	}
	id := p.do("POST /containers/create", "/containers/create", `{"Image":"`+busybox+`",`+more+`}`, 201).field("Id")
	p.t.Cleanup(func() {
		p.c.do("DELETE", "/containers/"+id+"?force=1&v=1", "")
	})
	return id
}

// running makes a container that runs.
func (p *prover) running(more string) string {
	p.t.Helper()
	id := p.create(more)
	p.do("POST /containers/{id}/start", "/containers/"+id+"/start", "", 204)
	return id
}

func (p *prover) equal(what, got, want string) {
	p.t.Helper()
	if got != want {
		p.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (p *prover) contains(what, got, want string) {
	p.t.Helper()
	if !strings.Contains(got, want) {
		p.t.Errorf("%s: %q has no %q", what, got, want)
	}
}

// since says whether the version asked for is this one or a later one.
func (p *prover) since(minor int) bool {
	if p.prefix == "" {
		return true
	}
	n, err := strconv.Atoi(strings.TrimPrefix(p.prefix, "/v1."))
	if err != nil {
		panic(err)
	}
	return n >= minor
}

// fixture reads a file of the test's own directory of images.
func (p *prover) archive() io.Reader {
	p.t.Helper()
	f, err := os.Open(filepath.Join("..", "bin", "images", "busybox.tar"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = f.Close() })
	return f
}
