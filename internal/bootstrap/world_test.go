package bootstrap

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/bootmsg"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/runstep"
	"github.com/kistdev/kist/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deb is a package to make.
type deb struct {
	name, version, arch string
	fields              []string          // further lines of its control file
	control             map[string]string // further files of the control part
	files               []tar.Header      // of a file, Linkname is the content
	packing             string
	raw                 []byte // in place of all that
}

func (d deb) text() string {
	if d.version == "" {
		d.version = "1"
	}
	if d.arch == "" {
		d.arch = nativeArch()
	}
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: nobody\n%s", d.name, d.version, d.arch, strings.Join(append(d.fields, ""), "\n"))
}

func (d deb) build(t testing.TB) []byte {
	t.Helper()
	if d.raw != nil {
		return d.raw
	}
	entries := []tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, file("./control", d.text())}
	for name, data := range d.control {
		h := file("./"+name, data)
		h.Mode = 0o755
		entries = append(entries, h)
	}
	suffix := map[string]string{"": ".gz", "zstd": ".zst", "plain": ""}[d.packing]
	data := append([]tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}}, d.files...)
	return testbed.Ar("debian-binary", "2.0\n", "control.tar"+suffix, packed(t, d.packing, entries), "data.tar"+suffix, packed(t, d.packing, data))
}

func file(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Linkname: content, ModTime: time.Unix(1e9, 0)}
}

func directory(name string, mode int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, ModTime: time.Unix(1e9, 0)}
}

func packed(t testing.TB, how string, entries []tar.Header) string {
	t.Helper()
	raw := testbed.Tar(t, entries...)
	switch how {
	case "plain":
		return string(raw)
	case "zstd":
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		return string(z.EncodeAll(raw, nil))
	}
	return gz(raw)
}

func gz(raw []byte) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(raw)
	_ = z.Close()
	return b.String()
}

// mirror is an archive in memory.
type mirror struct {
	t     testing.TB
	key   *openpgp.Entity
	files map[string][]byte
	// served, when set, answers in place of the files.
	served func(w http.ResponseWriter, r *http.Request) bool
	url    string
	debs   []deb
	date   time.Time
	until  time.Time
	suite  string
}

func newMirror(t testing.TB, debs ...deb) *mirror {
	t.Helper()
	date := time.Now().Add(-24 * time.Hour).Truncate(time.Second).UTC()
	key, err := openpgp.NewEntity("archive", "", "archive@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return date.Add(-time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{t: t, key: key, debs: debs, date: date, suite: "test"}
	m.write()
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	m.url = s.URL
	return m
}

// ServeHTTP serves a file.
func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.served != nil && m.served(w, r) {
		return
	}
	raw, ok := m.files[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "x", m.date, bytes.NewReader(raw))
}

// write makes the files of the archive.
func (m *mirror) write() {
	m.t.Helper()
	m.files = map[string][]byte{}
	var list strings.Builder
	for _, d := range m.debs {
		raw := d.build(m.t)
		at := "pool/" + d.name + ".deb"
		m.files[at] = raw
		fmt.Fprintf(&list, "%sFilename: %s\nSize: %d\nSHA256: %x\n\n", d.text(), at, len(raw), sha256.Sum256(raw))
	}
	arch := nativeArch()
	packages := []byte(gz([]byte(list.String())))
	at := "dists/" + m.suite + "/main/binary-" + arch + "/"
	m.files[at+"Packages.gz"] = packages
	m.files[fmt.Sprintf("%sby-hash/SHA256/%x", at, sha256.Sum256(packages))] = packages
	release := fmt.Sprintf("Origin: Test\nSuite: stable\nCodename: %s\nDate: %s\nAcquire-By-Hash: yes\nArchitectures: %s\nComponents: main\n",
		m.suite, m.date.Format(time.RFC1123), arch)
	if !m.until.IsZero() {
		release += "Valid-Until: " + m.until.UTC().Format(time.RFC1123) + "\n"
	}
	release += fmt.Sprintf("SHA256:\n %x %d main/binary-%s/Packages.gz\n", sha256.Sum256(packages), len(packages), arch)
	m.files["dists/"+m.suite+"/InRelease"] = m.sign(release)
}

func (m *mirror) sign(text string) []byte {
	m.t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, m.key.PrivateKey, &packet.Config{Time: func() time.Time { return m.date }})
	if err != nil {
		m.t.Fatal(err)
	}
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

// keyring is the archive's key, as a file.
func (m *mirror) keyring() []byte {
	m.t.Helper()
	var b bytes.Buffer
	if err := m.key.Serialize(&b); err != nil {
		m.t.Fatal(err)
	}
	return b.Bytes()
}

// world is a maker on stores of its own. Its commands do not run: what dpkg would have done to its database is done to it.
type world struct {
	*Maker
	t       testing.TB
	layers  *layer.Store
	images  *image.Store
	script  string
	command func(ctx context.Context, root string) error
	notes   []string
	dir     string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root")
	}
	w := &world{t: t, dir: t.TempDir()}
	var err error
	w.layers, err = layer.Open(filepath.Join(w.dir, "layers"))
	w.ok(err)
	t.Cleanup(func() { w.ok(w.layers.Close()) })
	w.images, err = image.Open(image.Options{Dir: filepath.Join(w.dir, "content"), Layers: w.layers, Events: new(event.Bus)})
	w.ok(err)
	apt := filepath.Join(w.dir, "host")
	w.ok(os.Mkdir(apt, 0o755))
	w.Maker, err = Open(context.Background(), Config{
		Dir: filepath.Join(w.dir, "work"), Layers: w.layers, Images: w.images, Commands: w, Root: apt, UserAgent: "test",
	})
	w.ok(err)
	w.patience = time.Millisecond
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// Run plays the container.
func (w *world) Run(ctx context.Context, r runstep.Request) ([]layer.Committed, error) {
	o, err := w.layers.Rootfs(r.Mounts[0].Prepared)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(o.Upper, r.Op.Meta.Args[1]))
	if err != nil {
		return nil, err
	}
	w.script = string(raw)
	status := filepath.Join(o.Upper, "var/lib/dpkg/status")
	if raw, err = os.ReadFile(status); err != nil {
		return nil, err
	}
	if err := os.WriteFile(status, bytes.ReplaceAll(raw, []byte("install ok unpacked"), []byte("install ok installed")), 0o644); err != nil {
		return nil, err
	}
	if w.command != nil {
		return nil, w.command(ctx, o.Upper)
	}
	return nil, nil
}

// make makes an image of a mirror.
func (w *world) make(m *mirror, change func(r *bootmsg.Request)) (*bootmsg.Result, error) {
	r := bootmsg.Request{Suite: "any:test", Mirrors: []string{m.url}, Keyrings: [][]byte{m.keyring()}}
	if change != nil {
		change(&r)
	}
	return w.Make(context.Background(), r, func(m bootmsg.Message) {
		if m.Note != "" {
			w.notes = append(w.notes, m.Note)
		}
	})
}

// nothingLeft fails if anything is left of what was made but images.
func (w *world) nothingLeft() {
	w.t.Helper()
	if ids, err := w.layers.Prepared(); err != nil || len(ids) > 0 {
		w.t.Errorf("writable layers are left: %v, %v", ids, err)
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "work")); err != nil || len(left) > 0 {
		w.t.Errorf("files are left: %v, %v", left, err)
	}
}
