package engine

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/moby/api/types/container"
	dockernet "github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/network"
)

func TestHostsAndResolv(t *testing.T) {
	i := identity{
		hostname: "web", domain: "example.org", hosts: []string{"db:10.0.0.5", "v6=[fe80::1]", "gw:host-gateway"},
		addrs: []netip.Addr{netip.MustParseAddr("172.17.0.2")}, gateway: netip.MustParseAddr("172.17.0.1"),
		resolv: network.ResolvConf{
			Servers: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, Search: []string{"lan"}, Options: []string{"ndots:2"},
		},
		config: &docker.HostConfig{},
	}
	hosts, err := i.hostsFile()
	if err != nil {
		t.Fatal(err)
	}
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.5\tdb\nfe80::1\tv6\n172.17.0.1\tgw\n172.17.0.2\tweb.example.org web\n"
	if d := cmp.Diff(want, string(hosts)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("nameserver 10.0.0.53\nsearch lan\noptions ndots:2\n", string(i.resolvConf())); d != "" {
		t.Error(d)
	}
	i.config = &docker.HostConfig{DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, DNSSearch: []string{"."}, DNSOptions: []string{"rotate"}}
	if d := cmp.Diff("nameserver 9.9.9.9\noptions rotate\n", string(i.resolvConf())); d != "" {
		t.Error(d)
	}
	i.hosts = []string{"x:notanip"}
	if _, err := i.hostsFile(); err == nil {
		t.Error("a bad address was accepted")
	}
}

func TestLogWriter(t *testing.T) {
	r := logfile.Record{
		Stream: "stderr", Time: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC), Line: []byte("hello\n"),
		Attrs: map[string]string{"b": "2 3", "a": "1"},
	}
	var out bytes.Buffer
	l := logWriter{w: &out, framed: true, timestamps: true, details: true}
	if err := l.record(r); err != nil {
		t.Fatal(err)
	}
	payload := "2026-01-02T03:04:05.000000600Z a=1,b=2+3 hello\n"
	want := "\x02\x00\x00\x00\x00\x00\x00" + string(rune(len(payload))) + payload
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	out.Reset()
	l = logWriter{w: &out}
	if err := l.record(r); err != nil || out.String() != "hello\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestLedger(t *testing.T) {
	data, run := t.TempDir(), t.TempDir()
	l, err := openLedger(data, run, "boot-1")
	if err != nil {
		t.Fatal(err)
	}
	def := func(id string, fleeting bool) *definition {
		return &definition{
			ID: id, Name: "n" + id, Config: &docker.Config{Cmd: []string{"x"}}, HostConfig: &docker.HostConfig{AutoRemove: fleeting},
			Mounts:    []mountPoint{{Target: "/x", Anonymous: true, Name: "v"}},
			Endpoints: map[string]*dockernet.EndpointSettings{"bridge": nil},
		}
	}
	for _, d := range []*definition{def("a", false), def("b", true), def("c", false)} {
		if err := l.define(d, state{Phase: created}); err != nil {
			t.Fatal(err)
		}
	}
	st := state{Phase: running, PID: 7, StartedAt: time.Now().UTC().Round(time.Microsecond), Ports: dockernet.PortMap{
		dockernet.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: "8080"}},
	}}
	if err := l.note(def("a", false), st); err != nil {
		t.Fatal(err)
	}
	if err := l.forget(def("c", false)); err != nil {
		t.Fatal(err)
	}
	rows := func() map[string]*container {
		t.Helper()
		list, err := l.all()
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]*container{}
		for _, c := range list {
			m[c.id] = c
		}
		return m
	}
	reopen := func(boot string) {
		t.Helper()
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		if l, err = openLedger(data, run, boot); err != nil {
			t.Fatal(err)
		}
	}
	reopen("boot-1")
	got := rows()
	if len(got) != 2 || got["b"] == nil {
		t.Fatalf("rows %v", got)
	}
	if d := cmp.Diff(st, got["a"].st, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b dockernet.Port) bool { return a == b })); d != "" {
		t.Error(d)
	}
	want, have := def("a", false), got["a"].def
	if a, b := asJSON(t, want), asJSON(t, have); a != b {
		t.Errorf("definition %s came back as %s", a, b)
	}
	// After a reboot the fleeting rows are gone, even if their file is torn.
	if err := os.WriteFile(filepath.Join(run, "run.db"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	reopen("boot-2")
	if got := rows(); len(got) != 1 || got["a"] == nil {
		t.Errorf("rows after a reboot %v", got)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
