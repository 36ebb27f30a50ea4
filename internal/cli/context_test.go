package cli

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// contextArchive makes a tar of files.
func contextArchive(t *testing.T, files ...string) []byte {
	t.Helper()
	var entries []tar.Header
	for i := 0; i < len(files); i += 2 {
		entries = append(entries, tar.Header{Name: files[i], Mode: 0o600, Linkname: files[i+1]})
	}
	return testbed.Tar(t, entries...)
}

const goodMeta = `{"Name":"old","Metadata":{"Description":"d","Other":[1]},"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":false},"kubernetes":{}}}`

func TestContextImport(t *testing.T) {
	for _, tc := range []struct {
		name, fault string
		archive     []byte
	}{
		{"good", "", contextArchive(t, "meta.json", goodMeta, "tls/docker/ca.pem", "CA")},
		{"empty", "no meta.json", contextArchive(t)},
		{"no tar", "import the context", []byte("hello")},
		{"zip", "zip archives are not read", []byte("PK\x03\x04 and more")},
		{"broken", "meta.json", contextArchive(t, "meta.json", "{")},
		{"no endpoint", "no docker endpoint", contextArchive(t, "meta.json", `{"Name":"x"}`)},
		{"stranger", "unexpected file", contextArchive(t, "meta.json", goodMeta, "../../evil", "x")},
		{"other file", "unexpected file", contextArchive(t, "meta.json", goodMeta, "tls/docker/other", "x")},
		{"huge", "larger than", contextArchive(t, "meta.json", strings.Repeat(" ", maxContext+1))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "in")
			if err := os.WriteFile(file, tc.archive, 0o600); err != nil {
				t.Fatal(err)
			}
			env := map[string]string{"DOCKER_CONFIG": filepath.Join(dir, "settings")}
			d := newFakeDaemon(t)
			r := d.kistWith(nil, env, "context", "import", "new", file)
			if tc.fault != "" {
				if r.code == 0 || !strings.Contains(r.err, tc.fault) {
					t.Errorf("%+v, want %q", r, tc.fault)
				}
				if _, err := os.Stat(filepath.Join(dir, "settings", "contexts", "meta")); err == nil {
					t.Error("something was made")
				}
				return
			}
			store := contextStore{filepath.Join(dir, "settings", "contexts")}
			c, err := store.read("new")
			if r.code != 0 || err != nil || c.description() != "d" || string(c.Metadata["Other"]) != "[1]" || string(c.Endpoints["kubernetes"]) != "{}" {
				t.Fatalf("%+v, %+v, %v", r, c, err)
			}
			e, err := store.connection("new")
			if err != nil || e.Addr != "h:1" || e.TLS == nil || !e.TLS.Verify {
				t.Errorf("%+v, %v", e, err)
			}
			if b, err := os.ReadFile(e.TLS.CA); err != nil || string(b) != "CA" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

func TestContextNames(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"DOCKER_CONFIG": dir}
	d := newFakeDaemon(t)
	kist := func(want string, args ...string) {
		t.Helper()
		if r := d.kistWith(nil, env, args...); !strings.Contains(r.out+r.err, want) {
			t.Errorf("kist %s: %+v, want %q", strings.Join(args, " "), r, want)
		}
	}
	kist("reserved", "context", "create", "default", "--docker", "host=unix:///x")
	kist("invalid", "context", "create", "../x", "--docker", "host=unix:///x")
	kist("it needs host=", "context", "create", "one", "--docker", "host=ftp://x")
	kist("unrecognized config key", "context", "create", "one", "--docker", "hots=unix:///x")
	kist("belong together", "context", "create", "one", "--docker", "host=tcp://x,cert=y")
	kist(`Successfully created context "one"`, "context", "create", "one", "--docker", "host=unix:///x", "--description", "first")
	kist("already exists", "context", "create", "one")
	kist("two", "context", "create", "two", "--from", "one")
	kist(`{"Current":false,"Description":"first","DockerEndpoint":"unix:///x","Error":"","Name":"two"}`, "context", "ls", "--format", "json")
	kist("two", "context", "update", "two", "--docker", "host=tcp://y:2375")
	kist("did you mean two?", "context", "use", "tow")
	kist("cannot be removed", "context", "rm", "default")
	kist("one\ntwo", "context", "rm", "one", "two")

	// Other settings stay; a broken file is not overwritten.
	settings := filepath.Join(dir, "config.json")
	if err := os.WriteFile(settings, []byte(`{"credsStore":"x","unknown":{"a":1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	kist("three", "context", "create", "three", "--docker", "host=unix:///x")
	kist("Current context is now", "context", "use", "three")
	raw, err := os.ReadFile(settings)
	if err != nil || !strings.Contains(string(raw), `"unknown"`) || !strings.Contains(string(raw), `"currentContext": "three"`) {
		t.Errorf("%s, %v", raw, err)
	}
	kist("three", "context", "rm", "-f", "three")
	if raw, err = os.ReadFile(settings); err != nil || strings.Contains(string(raw), "currentContext") {
		t.Errorf("%s, %v", raw, err)
	}
	if err := os.WriteFile(settings, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	kist("read the settings", "context", "use", "default")
}
