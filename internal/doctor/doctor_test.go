package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestText(t *testing.T) {
	r := &Report{Findings: []Finding{
		{Area: "kernel", Name: "version", State: OK, Text: "Linux 6"},
		{Area: "kernel", Name: "overlay", State: Fail, Text: "not there", Try: "modprobe overlay"},
		{Area: "leftovers", Name: "mount", State: OK, Text: "/x", Try: "umount /x", Fixed: true},
		{Area: "leftovers", Name: "mount", State: Warn, Text: "/y", Try: "umount /y", FixError: "busy"},
	}, Summary: Summary{2, 1, 1}}
	const want = `kernel      ok    version: Linux 6
            fail  overlay: not there
                  try: modprobe overlay
leftovers   ok    mount: /x
                  cleared away
            warn  mount: /y
                  not cleared away: busy
2 ok, 1 to look at, 1 failed
`
	var b bytes.Buffer
	if err := r.WriteText(&b, false); err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
	b.Reset()
	if err := r.WriteText(&b, true); err != nil || !strings.Contains(b.String(), "\x1b[1;31mfail\x1b[0m  overlay") {
		t.Errorf("%v\n%q", err, b.String())
	}
	b.Reset()
	back := new(Report)
	if err := r.WriteJSON(&b); err != nil || json.Unmarshal(b.Bytes(), back) != nil || back.Findings[1].State != Fail || back.Summary != r.Summary {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestFixing(t *testing.T) {
	f := warn("mount", "x", "y")
	f.fix = func() error { return errors.New("busy") }
	if f.clear(); f.Fixed || f.State != Warn || f.FixError != "busy" {
		t.Errorf("%+v", f)
	}
	f.fix = func() error { return nil }
	if f.clear(); !f.Fixed || f.State != OK {
		t.Errorf("%+v", f)
	}
}

func TestNameServers(t *testing.T) {
	got := nameServers("# nameserver 1.1.1.1\nsearch x\nnameserver 10.0.0.1\nnameserver\nnameserver ::1 \nnameserver nonsense\n")
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	for in, want := range map[string]string{
		"http://user:secret@proxy:3128": "http://***@proxy:3128", "http://proxy:3128": "http://proxy:3128", "localhost,10.0.0.0/8": "localhost,10.0.0.0/8",
		"http://a:p@ss@proxy": "http://***@proxy",
	} {
		if got := withoutPassword(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestOldErrorsAreNoNews(t *testing.T) {
	now := time.Now()
	for line, want := range map[string]bool{
		"level=ERROR msg=x": true,
		"time=" + now.Format(time.RFC3339Nano) + " level=ERROR":                          true,
		"time=" + now.Add(-48*time.Hour).Format(time.RFC3339Nano) + " level=ERROR":       false,
		"time=" + strings.Repeat("9", 30) + " level=ERROR msg=\"no time, but an error\"": true,
	} {
		if got := recent(line); want != got {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func TestLogErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kistd.log")
	now := time.Now().Format(time.RFC3339Nano)
	for _, tc := range []struct {
		log, text string
		state     State
	}{
		{"time=" + now + " level=INFO msg=ready version=1\n", "has no errors", OK},
		{"time=" + now + " level=ERROR msg=one\ntime=" + now + " level=ERROR msg=two\n", "2 errors of the last day in " + path + "; the last: time=" + now + " level=ERROR msg=two", Warn},
		{"error: the daemon cannot start: x [daemon-config]\n", "the last start failed: the daemon cannot start: x [daemon-config]", Warn},
		{"error: the daemon cannot start: x [daemon-config]\ntime=" + now + " level=INFO msg=ready version=1\n", "has no errors", OK},
		{"panic: oh\n", "1 errors", Warn},
		{"time=2020-01-01T00:00:00Z level=ERROR msg=old\n", "has no errors", OK},
	} {
		if err := os.WriteFile(path, []byte(tc.log), 0o600); err != nil {
			t.Fatal(err)
		}
		if f := logErrors(path); f.State != tc.state || !strings.Contains(f.Text, tc.text) {
			t.Errorf("%q: %+v", tc.log, f)
		}
	}
	if f := logErrors(path + ".none"); f.State != OK {
		t.Errorf("%+v", f)
	}
}

// A store is read without a daemon, and what is wrong with it is found, whatever is in its files.
func TestStore(t *testing.T) {
	root := t.TempDir()
	blobs := filepath.Join(root, "content", "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(text string) (string, int) {
		d := digest.FromString(text)
		if err := os.WriteFile(filepath.Join(blobs, d.Encoded()), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return d.String(), len(text)
	}
	layer, _ := put("a layer")
	config, _ := put(`{"rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("a", 64) + `"]}}`)
	manifest, size := put(`{"config":{"digest":"` + config + `"},"layers":[{"digest":"` + layer + `"}]}`)
	index := func(text string) {
		if err := os.WriteFile(filepath.Join(root, "content", "index.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(d string, size int) string {
		raw, _ := json.Marshal(map[string]any{"manifests": []any{map[string]any{"digest": d, "size": size, "annotations": map[string]string{"io.containerd.image.name": "app:1"}}}})
		return string(raw)
	}
	h := &host{Options: Options{DataRoot: root, Deep: true}}
	look := func(want State, text string) {
		t.Helper()
		for _, f := range store(context.Background(), h) {
			if f.State == want && strings.Contains(f.Name+": "+f.Text, text) {
				return
			}
		}
		t.Errorf("no %s says %q: %+v", want, text, store(context.Background(), h))
	}
	index(entry(manifest, size))
	look(OK, "1 names lead to all their blobs and layers")
	look(OK, "3 of 3 have the digests")
	index(entry(manifest, size+1))
	look(Fail, "image app:1: sha256:"+manifest[7:19]+" has ")
	index(entry("sha256:"+strings.Repeat("b", 64), 1))
	look(Fail, "its manifest sha256:bbbbbbbbbbbb is not there")
	// An image for another platform under the same name.
	index(strings.Replace(entry(manifest, size), `"annotations":{`,
		`"annotations":{"dev.kist.image.others":"[{\"digest\":\"sha256:`+strings.Repeat("c", 64)+`\",\"size\":1}]",`, 1))
	look(Fail, "image app:1: its manifest sha256:cccccccccccc is not there")
	index(entry("../../../../etc/passwd", 1))
	look(Fail, "is not there")
	index("nonsense")
	look(Fail, "index.json cannot be read")
	index(entry(manifest, size))
	if err := os.Remove(filepath.Join(blobs, layer[7:])); err != nil {
		t.Fatal(err)
	}
	look(Fail, "image app:1: its layer 1 of 1 (sha256:aaaaaaaaaaaa) is not there, neither as files nor as a blob")
	if err := os.WriteFile(filepath.Join(blobs, config[7:]), []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	look(Fail, "blob sha256:"+config[7:19]+": its content has the digest")
	look(Fail, "its configuration sha256:"+config[7:19]+" cannot be read")
	if err := os.WriteFile(filepath.Join(root, "kist.db"), bytes.Repeat([]byte{0xa5}, 16<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	look(Fail, "rows: "+filepath.Join(root, "kist.db"))
}

// Whatever the files of a store hold, they are only looked at.
func FuzzStore(f *testing.F) {
	f.Add(`{"manifests":[{"digest":"sha256:x"}]}`, "{}")
	f.Add(`{"manifests":[{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":-1}]}`, `{"manifests":[{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}]}`)
	f.Add(`[]`, `{"config":null,"layers":[{}]}`)
	f.Fuzz(func(t *testing.T, index, blob string) {
		root := t.TempDir()
		blobs := filepath.Join(root, "content", "blobs", "sha256")
		if err := os.MkdirAll(blobs, 0o755); err != nil {
			t.Fatal(err)
		}
		for path, text := range map[string]string{
			filepath.Join(root, "content", "index.json"):  index,
			filepath.Join(blobs, strings.Repeat("0", 64)): blob,
		} {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		h := &host{Options: Options{DataRoot: root}}
		if len(store(context.Background(), h)) == 0 {
			t.Error("nothing was found, not even that all is well")
		}
	})
}
