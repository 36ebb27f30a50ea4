package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// entries lists a tar, a line for each entry.
func entries(t testing.TB, data []byte) []string {
	t.Helper()
	var lines []string
	r := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %s", hdr.Typeflag, hdr.Name)
		if hdr.Linkname != "" {
			line += " -> " + hdr.Linkname
		}
		for _, k := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
			if strings.HasPrefix(k, xattrRecord) {
				line += fmt.Sprintf(" %s=%q", k[len(xattrRecord):], hdr.PAXRecords[k])
			}
		}
		lines = append(lines, line)
	}
}

func pack(t testing.TB, dir, name string, o TarOptions) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Tar(t.Context(), openRoot(t, dir), name, &buf, o); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestTarNames(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "a/b"), 0o755)
	os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("x"), 0o644)
	os.Symlink("a", filepath.Join(dir, "l"))
	for _, c := range []struct {
		name string
		o    TarOptions
		want []string
	}{
		{"/", TarOptions{NoRoot: true}, []string{"5 a/", "5 a/b/", "0 a/b/f", "2 l -> a"}},
		{"a", TarOptions{}, []string{"5 ./", "5 b/", "0 b/f"}},
		{"a", TarOptions{Name: "new"}, []string{"5 new/", "5 new/b/", "0 new/b/f"}},
		{"/a/b/f", TarOptions{}, []string{"0 f"}},
		{"a/b/f", TarOptions{Name: "g"}, []string{"0 g"}},
		{"l", TarOptions{Name: "l"}, []string{"2 l -> a"}},
		{"l/.", TarOptions{}, []string{"5 ./", "5 b/", "0 b/f"}},
		{"l/", TarOptions{Name: "l"}, []string{"5 l/", "5 l/b/", "0 l/b/f"}},
		{"l/b", TarOptions{Name: "b"}, []string{"5 b/", "0 b/f"}},
	} {
		if got := entries(t, pack(t, dir, c.name, c.o)); !slices.Equal(got, c.want) {
			t.Errorf("%s %+v: got %q, want %q", c.name, c.o, got, c.want)
		}
	}
	if err := Tar(t.Context(), openRoot(t, dir), "a/nothing", io.Discard, TarOptions{}); !os.IsNotExist(unwrapAll(err)) {
		t.Error("what is not there:", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
	}
}

func TestTarUpper(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "opaque"), 0o755)
	unix.Setxattr(filepath.Join(dir, "opaque"), "trusted.overlay.opaque", []byte("y"), 0)
	unix.Setxattr(filepath.Join(dir, "opaque"), "user.kept", []byte("1"), 0)
	os.WriteFile(filepath.Join(dir, "opaque/.wh.fake"), nil, 0o644)
	unix.Mknod(filepath.Join(dir, "opaque/gone"), unix.S_IFCHR, 0)
	unix.Mknod(filepath.Join(dir, "never"), unix.S_IFCHR, 0)
	unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK, 0)
	hidden := func(path string, opaque bool) bool { return path != "never" }
	got := entries(t, pack(t, dir, "/", TarOptions{Upper: true, NoRoot: true, Hidden: hidden}))
	want := []string{`5 opaque/ user.kept="1"`, "0 opaque/.wh..wh..opq", "0 opaque/.wh.gone"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	unix.Setxattr(filepath.Join(dir, "opaque"), "trusted.overlay.redirect", []byte("/x"), 0)
	if err := Tar(t.Context(), openRoot(t, dir), "/", io.Discard, TarOptions{Upper: true}); err == nil {
		t.Error("a redirected directory was archived")
	}
}

// realTree is a tree of this machine with many files and links.
func realTree(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{"/usr/share/zoneinfo/Europe", "/usr/share/perl/5.36.0/unicore", "/usr/share/doc/apt", "/etc"} {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	t.Skip("no tree to archive on this machine")
	return ""
}

// TestAgainstGNUTar unpacks what GNU tar packed, in each of its formats, beside GNU tar itself, and the other way round.
func TestAgainstGNUTar(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar program")
	}
	src := t.TempDir()
	run(t, "cp", "-a", realTree(t), filepath.Join(src, "tree"))
	odd := filepath.Join(src, "odd")
	os.MkdirAll(filepath.Join(odd, strings.Repeat("deep/", 60)), 0o711)
	os.WriteFile(filepath.Join(odd, strings.Repeat("n", 200)), []byte("long"), 0o600)
	os.Symlink(strings.Repeat("target/", 40), filepath.Join(odd, "link"))
	os.Chown(odd, 12345, 3000000)
	f, _ := os.Create(filepath.Join(odd, "sparse"))
	f.WriteAt([]byte("middle"), 1<<20)
	f.WriteAt([]byte("end"), 3<<20)
	f.Truncate(4 << 20)
	f.Close()
	os.Link(filepath.Join(odd, "sparse"), filepath.Join(odd, "another"))
	want := tree(t, src)
	for _, format := range [][]string{
		{"--format=gnu"},
		{"--format=oldgnu"},
		{"--format=pax", "--sparse-version=0.0"},
		{"--format=pax", "--sparse-version=0.1"},
		{"--format=pax", "--sparse-version=1.0"},
	} {
		data := run(t, "tar", append(format, "-C", src, "-S", "-cf", "-", ".")...)
		ours := t.TempDir()
		if _, err := untar(t, ours, data, UntarOptions{}); err != nil {
			t.Fatal(format, err)
		}
		equal(t, strings.Join(format, " "), tree(t, ours), want)
		var st unix.Stat_t
		if unix.Stat(filepath.Join(ours, "odd/sparse"), &st); st.Blocks*512 > 1<<20 {
			t.Errorf("%s: the sparse file occupies %d bytes", format, st.Blocks*512)
		}
	}
	theirs := t.TempDir()
	cmd := exec.Command("tar", "-C", theirs, "-xpf", "-")
	cmd.Stdin = bytes.NewReader(pack(t, src, "/", TarOptions{NoRoot: true}))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	equal(t, "unpacked by GNU tar", tree(t, theirs), want)
	if !bytes.Equal(pack(t, src, "/", TarOptions{}), pack(t, src, "/.", TarOptions{})) {
		t.Error("one tree gives two archives")
	}
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%s: differs at line %d: %.300q", what, i, [][]string{got[min(i, len(got)):], want[min(i, len(want)):]})
		}
	}
}

func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(name, args, err, errs.String())
	}
	return out
}

func TestCopy(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	os.MkdirAll(filepath.Join(src, "data/sub"), 0o700)
	os.WriteFile(filepath.Join(src, "data/f"), bytes.Repeat([]byte("x"), 1<<20), 0o640)
	os.Chown(filepath.Join(src, "data/f"), 5, 6)
	if err := Copy(t.Context(), openRoot(t, src), "/data", openRoot(t, dst), "/"); err != nil {
		t.Fatal(err)
	}
	equal(t, "copy", tree(t, dst), tree(t, filepath.Join(src, "data")))
	if err := Copy(t.Context(), openRoot(t, src), "/nothing", openRoot(t, dst), "/"); err == nil {
		t.Error("copied what is not there")
	}
	if err := Copy(t.Context(), openRoot(t, src), "/data", openRoot(t, dst), "/nowhere"); err == nil {
		t.Error("copied to where nothing is")
	}
}

func TestDecompress(t *testing.T) {
	var gz, zst bytes.Buffer
	w := gzip.NewWriter(&gz)
	io.WriteString(w, "hello")
	w.Close()
	z, _ := zstd.NewWriter(&zst)
	io.WriteString(z, "hello")
	z.Close()
	skip := append([]byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2}, zst.Bytes()...)
	xzHello := "\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3\x01\x00\x04\x68\x65\x6c\x6c\x6f\x00\x00\x00\x00\xb1\x37\xb9\xdb\xe5\xda\x1e\x9b\x00\x01\x1d\x05\xb8\x2d\x80\xaf\x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04\x59\x5a"
	bz := "BZh91AY&SY\x19\x31\x65\x3d\x00\x00\x00\x81\x00\x02\x44\xa0\x00\x21\x9a\x68\x33\x4d\x07\x33\x8b\xb9\x22\x9c\x28\x48\x0c\x98\xb2\x9e\x80"
	for _, c := range []struct {
		in   string
		kind Compression
	}{
		{"hello", Plain}, {gz.String(), Gzip}, {zst.String(), Zstd}, {string(skip), Zstd}, {bz, Bzip2}, {xzHello, Xz}, {"", Plain}, {"h", Plain},
	} {
		r, kind, err := Decompress(strings.NewReader(c.in))
		if err != nil || kind != c.kind {
			t.Errorf("%q: %s %v", c.in, kind, err)
			continue
		}
		got, err := io.ReadAll(r)
		if want := "hello"[:min(5, len(c.in))]; c.kind != Bzip2 && (err != nil || string(got) != want) {
			t.Errorf("%s: %q %v", kind, got, err)
		}
		r.Close()
	}
}

func FuzzUntar(f *testing.F) {
	needRoot(f)
	for _, files := range [][]file{
		{{name: "a", body: "x"}, {name: "h", kind: linkType, link: "a"}, {name: "l", kind: symType, link: "/"}, {name: "l/../x"}},
		{{name: "d", kind: dirType}, {name: "d/.wh.x"}, {name: "d/.wh..wh..opq"}, {name: ".wh.d"}, {name: "d/x/y"}},
		{{name: "a", attrs: map[string]string{"user.x": "y"}}, {name: "p", kind: tar.TypeFifo}, {name: "p", kind: dirType}},
	} {
		f.Add(makeTar(f, files...))
	}
	outside := f.TempDir()
	before := tree(f, outside)
	f.Fuzz(func(t *testing.T, data []byte) {
		dir, err := os.MkdirTemp(outside, "in")
		if err != nil {
			t.Fatal(err)
		}
		untar(t, dir, data, UntarOptions{Layer: true})
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, outside); !slices.Equal(got, before) {
			t.Fatal("left something outside:", got)
		}
	})
}
