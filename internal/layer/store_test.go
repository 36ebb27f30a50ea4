package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file is an entry of a test's tar.
type file struct {
	name string
	kind byte // 0: regular
	body string
	link string
	mode int64
	uid  int
}

var epoch = time.Unix(1700000000, 0)

func makeTar(t *testing.T, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	err := writeTar(&buf, func(add func(file)) {
		for _, f := range files {
			add(f)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// writeTar writes the files that fn adds.
func writeTar(out io.Writer, fn func(add func(file))) error {
	var errs []error
	w := tar.NewWriter(out)
	fn(func(f file) {
		hdr := &tar.Header{
			Name: f.name, Typeflag: f.kind, Linkname: f.link, Mode: f.mode, Size: int64(len(f.body)), ModTime: epoch,
			Uid: f.uid,
		}
		if hdr.Typeflag == 0 {
			hdr.Typeflag = tar.TypeReg
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o755
		}
		errs = append(errs, w.WriteHeader(hdr))
		_, err := io.WriteString(w, f.body)
		errs = append(errs, err)
	})
	return errors.Join(append(errs, w.Close())...)
}

func compress(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlay mounts and device nodes")
	}
}

func open(t *testing.T) *Store {
	t.Helper()
	needRoot(t)
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const gzipLayer = "application/vnd.oci.image.layer.v1.tar+gzip"

func unpack(t *testing.T, s *Store, files ...file) digest.Digest {
	t.Helper()
	data := makeTar(t, files...)
	id := digest.FromBytes(data)
	if err := s.Unpack(t.Context(), id, gzipLayer, bytes.NewReader(compress(t, data))); err != nil {
		t.Fatal(err)
	}
	return id
}

func prepare(t *testing.T, s *Store, id string, layers ...digest.Digest) {
	t.Helper()
	if _, err := s.Prepare(t.Context(), id, layers, PrepareOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestUnpackVerifies(t *testing.T) {
	s := open(t)
	data := makeTar(t, file{name: "a", body: "hello"})
	id := digest.FromBytes(data)
	good := compress(t, data)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x10
	broken := errors.New("connection reset")
	for _, c := range []struct {
		name string
		r    io.Reader
		want error
	}{
		{"wrong digest", bytes.NewReader(compress(t, makeTar(t, file{name: "b"}))), errdefs.ErrInvalidArgument},
		{"padding counts", bytes.NewReader(compress(t, append(bytes.Clone(data), make([]byte, 512)...))), errdefs.ErrInvalidArgument},
		{"truncated", bytes.NewReader(good[:len(good)-10]), errdefs.ErrInvalidArgument},
		{"flipped bit", bytes.NewReader(flipped), errdefs.ErrInvalidArgument},
		{"not a tar", strings.NewReader(strings.Repeat("nonsense", 1000)), errdefs.ErrInvalidArgument},
		{"empty", strings.NewReader(""), errdefs.ErrInvalidArgument},
		{"damaged xz", strings.NewReader("\xfd7zXZ\x00 and so on"), errdefs.ErrInvalidArgument},
		{"source fails", io.MultiReader(bytes.NewReader(good[:20]), failing{broken}), broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := s.Unpack(t.Context(), id, gzipLayer, c.r)
			if !errors.Is(err, c.want) {
				t.Fatalf("got error %v, want %v", err, c.want)
			}
			if f, ok := fault.As(err); ok != errors.Is(c.want, errdefs.ErrInvalidArgument) {
				t.Errorf("fault: %v", f)
			}
			if s.Has(id) {
				t.Error("the layer is there")
			}
			assertEmpty(t, s, "t", "l")
		})
	}
	if err := s.Unpack(t.Context(), id, gzipLayer, bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	if !s.Has(id) {
		t.Error("the layer is not there")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func assertEmpty(t *testing.T, s *Store, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(s.dir, dir))
		if err != nil || len(entries) > 0 {
			t.Errorf("%s is not empty: %v %v", dir, entries, err)
		}
	}
}

func TestIngest(t *testing.T) {
	s := open(t)
	data := makeTar(t, file{name: "a", body: "hello"})
	for _, r := range [][]byte{data, compress(t, data)} {
		id, err := s.Ingest(t.Context(), bytes.NewReader(r))
		if err != nil || id != digest.FromBytes(data) {
			t.Fatal(id, err)
		}
	}
	if size, err := s.Size(digest.FromBytes(data)); err != nil || size < 4096 {
		t.Error(size, err)
	}
	assertEmpty(t, s, "t")
}

// TestUnpackShared unpacks one layer twice at a time; the second reader is drained, and both end well.
func TestUnpackShared(t *testing.T) {
	s := open(t)
	data := makeTar(t, file{name: "a", body: "hello"})
	id := digest.FromBytes(data)
	pr, pw := io.Pipe()
	first := make(chan error, 1)
	go func() { first <- s.Unpack(t.Context(), id, "", pr) }()
	if _, err := pw.Write(data[:100]); err != nil { // the first is under way
		t.Fatal(err)
	}
	second := bytes.NewReader(data)
	result := make(chan error, 1)
	go func() { result <- s.Unpack(t.Context(), id, "", second) }()
	pw.Write(data[100:])
	pw.Close()
	for _, ch := range []chan error{first, result} {
		if err := <-ch; err != nil {
			t.Error(err)
		}
	}
	if second.Len() != 0 {
		t.Error("the second reader was not drained")
	}
}

func TestUnpackCancelled(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	data := makeTar(t, file{name: "a", body: strings.Repeat("x", 1<<20)})
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- s.Unpack(ctx, digest.FromBytes(data), "", pr)
		pr.Close() // lets the writer go
	}()
	pw.Write(data[:4096])
	cancel()
	pw.Write(data[4096:8192])
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	assertEmpty(t, s, "t", "l")
}

func TestRoot(t *testing.T) {
	s := open(t)
	base := unpack(t, s,
		file{name: "./", kind: tar.TypeDir, mode: 0o751, uid: 7},
		file{name: "etc/", kind: tar.TypeDir}, file{name: "etc/passwd", body: "root"}, file{name: "etc/group", body: "g"},
		file{name: "dir/", kind: tar.TypeDir}, file{name: "dir/old", body: "old"},
		file{name: "run", kind: tar.TypeSymlink, link: "/var/run"}, file{name: "var/run/x", body: "through"})
	top := unpack(t, s,
		file{name: "etc/"[:3] + "/.wh.group"}, file{name: "dir/.wh..wh..opq"}, file{name: "dir/new", body: "new"})
	empty := unpack(t, s)
	prepare(t, s, "c1", base, empty, top, empty, base, top)
	root, err := s.OpenRoot("c1")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string]string{
		"etc/passwd": "root", "etc/group": "", "dir/new": "new", "dir/old": "", "run/x": "through", "/run/../run/x": "through",
		"../../etc/passwd": "root",
	} {
		for how, read := range map[string]func() ([]byte, error){
			"mounted": func() ([]byte, error) { return root.ReadFile(name, 100) },
			"layers":  func() ([]byte, error) { return s.ReadFile("c1", name, 100) },
		} {
			got, err := read()
			if string(got) != want || want == "" && !errors.Is(err, fs.ErrNotExist) || want != "" && err != nil {
				t.Errorf("%s %s: %q %v", how, name, got, err)
			}
		}
	}
	st, err := root.Stat("/")
	if err != nil || st.Mode&0o7777 != 0o751 || st.Uid != 7 {
		t.Error("root directory:", st.Mode, st.Uid, err)
	}
	if _, err := s.ReadFile("c1", "etc/passwd", 2); err == nil {
		t.Error("a file larger than the limit was read")
	}
}
