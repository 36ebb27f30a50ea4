package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// file is an entry of a test's tar.
type file struct {
	name  string
	kind  byte // 0: regular
	body  string
	link  string
	mode  int64
	uid   int
	gid   int
	major int64
	minor int64
	attrs map[string]string
}

var epoch = time.Unix(1700000000, 0)

func makeTar(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		hdr := &tar.Header{
			Name: f.name, Typeflag: f.kind, Linkname: f.link, Mode: f.mode, Size: int64(len(f.body)), ModTime: epoch,
			Uid: f.uid, Gid: f.gid, Devmajor: f.major, Devminor: f.minor,
		}
		for k, v := range f.attrs {
			if hdr.PAXRecords == nil {
				hdr.PAXRecords = map[string]string{}
			}
			hdr.PAXRecords[xattrRecord+k] = v
		}
		if hdr.Typeflag == 0 {
			hdr.Typeflag = tar.TypeReg
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o755
		}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tree describes a tree, a line for each file.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d", path[len(dir)+1:], st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(data) > 100 {
				data = fmt.Appendf(nil, "%d bytes, %x", len(data), crc32.ChecksumIEEE(data))
			}
			line += fmt.Sprintf(" %q links %d", data, st.Nlink)
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			line += " -> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		names, err := sys.ListXattrs(path)
		if err != nil {
			return err
		}
		slices.Sort(names)
		for _, n := range names {
			v, _ := sys.GetXattr(path, n)
			line += fmt.Sprintf(" %s=%q", n, v)
		}
		if st.Mtim.Sec == epoch.Unix() {
			line += " epoch"
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners, device nodes, trusted attributes")
	}
}

func openRoot(t testing.TB, dir string) *sys.Root {
	t.Helper()
	root, err := sys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func untar(t testing.TB, dir string, data []byte, o UntarOptions) (Stats, error) {
	t.Helper()
	return Untar(t.Context(), openRoot(t, dir), "/", bytes.NewReader(data), o)
}

const (
	dirType  = tar.TypeDir
	linkType = tar.TypeLink
	symType  = tar.TypeSymlink
)

func TestUntar(t *testing.T) {
	needRoot(t)
	long := strings.Repeat("long/", 40) + "name"
	layer := UntarOptions{Layer: true}
	for _, c := range []struct {
		name  string
		o     UntarOptions
		files []file
		want  []string
	}{
		{"kinds", UntarOptions{}, []file{
			{name: "dir", kind: dirType, mode: 0o1777},
			{name: "dir/f", body: "x", mode: 0o640, uid: 3, gid: 4},
			{name: "hard", kind: linkType, link: "dir/f"},
			{name: "sym", kind: symType, link: "/nowhere", uid: 5},
			{name: "null", kind: tar.TypeChar, major: 1, minor: 3, mode: 0o666},
			{name: "disk", kind: tar.TypeBlock, major: 8, minor: 1, mode: 0o660},
			{name: "pipe", kind: tar.TypeFifo, mode: 0o622},
			{name: "suid", mode: 0o4755, uid: 9},
			{name: "suid0", mode: 0o6711},
			{name: "sgid", kind: dirType, mode: 0o2775, gid: 50},
			{name: "sgid/in", mode: 0o644},
			{name: "sgid/sub", kind: dirType},
		}, []string{
			"dir 41777 0:0 epoch", `dir/f 100640 3:4 "x" links 2 epoch`, "disk 60660 0:0 8:1 epoch", `hard 100640 3:4 "x" links 2 epoch`,
			"null 20666 0:0 1:3 epoch", "pipe 10622 0:0 epoch", "sgid 42775 0:50 epoch", `sgid/in 100644 0:0 "" links 1 epoch`,
			"sgid/sub 40755 0:0 epoch", `suid 104755 9:0 "" links 1 epoch`, `suid0 106711 0:0 "" links 1 epoch`,
			"sym 120777 5:0 -> /nowhere epoch",
		}},
		{"attributes", UntarOptions{}, []file{
			{name: "d", kind: dirType, attrs: map[string]string{"user.a": "1", "trusted.b": "2"}},
			{name: "cap", uid: 1, attrs: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
			{name: "l", kind: symType, link: "d", attrs: map[string]string{"user.refused": "1", "trusted.c": "3"}},
		}, []string{
			`cap 100755 1:0 "" links 1 security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" epoch`,
			`d 40755 0:0 trusted.b="2" user.a="1" epoch`, `l 120777 0:0 -> d trusted.c="3" epoch`,
		}},
		{"parents are made", UntarOptions{}, []file{{name: "a/b/c", body: "x"}}, []string{
			"a 40755 0:0", "a/b 40755 0:0", `a/b/c 100755 0:0 "x" links 1 epoch`,
		}},
		{"later entries win", UntarOptions{}, []file{
			{name: "a", body: "1"},
			{name: "a", body: "2"},
			{name: "b/c"},
			{name: "b", body: "now a file"},
			{name: "c"},
			{name: "c", kind: dirType},
			{name: "c/d", body: "x"},
			{name: "d", kind: symType, link: "c"},
			{name: "d", kind: dirType, mode: 0o700},
			{name: "d/e"},
			{name: "e", kind: dirType},
			{name: "e", kind: dirType, mode: 0o711, uid: 4},
			{name: "a", kind: linkType, link: "./a"},
			{name: "g", kind: linkType, link: "b"},
			{name: "g", kind: linkType, link: "c/../b"},
		}, []string{
			`a 100755 0:0 "2" links 1 epoch`, `b 100755 0:0 "now a file" links 2 epoch`, "c 40755 0:0 epoch",
			`c/d 100755 0:0 "x" links 1 epoch`, "d 40700 0:0 epoch", `d/e 100755 0:0 "" links 1 epoch`, "e 40711 4:0 epoch",
			`g 100755 0:0 "now a file" links 2 epoch`,
		}},
		{"a link as parent stays inside", UntarOptions{}, []file{
			{name: "in", kind: dirType},
			{name: "l", kind: symType, link: "/in"},
			{name: "l/f"},
			{name: "up", kind: symType, link: "../../../../in"},
			{name: "up/g"},
			{name: "dangling", kind: symType, link: "made/here"},
			{name: "dangling/h"},
		}, []string{
			"dangling 120777 0:0 -> made/here epoch", "in 40755 0:0 epoch", `in/f 100755 0:0 "" links 1 epoch`,
			`in/g 100755 0:0 "" links 1 epoch`, "l 120777 0:0 -> /in epoch", "made 40755 0:0", "made/here 40755 0:0",
			`made/here/h 100755 0:0 "" links 1 epoch`, "up 120777 0:0 -> ../../../../in epoch",
		}},
		{"names lead nowhere else", UntarOptions{}, []file{{name: "/abs"}, {name: "../../up"}, {name: "./a/../dot"}}, []string{
			`abs 100755 0:0 "" links 1 epoch`, `dot 100755 0:0 "" links 1 epoch`, `up 100755 0:0 "" links 1 epoch`,
		}},
		{"whiteouts", layer, []file{
			{name: "a/.wh.gone"},
			{name: "b", kind: dirType},
			{name: "b/.wh..wh..opq"},
			{name: "b/kept"},
			{name: ".wh..wh.plnk", kind: dirType},
			{name: "own", kind: dirType},
			{name: ".wh.own"},
			{name: ".wh.back"},
			{name: "back/again"},
			{name: ".wh.f"},
			{name: "f", body: "x"},
			{name: "g"},
			{name: ".wh.g"},
			{name: ".wh.d"},
			{name: "d", kind: dirType},
		}, []string{
			"a 40755 0:0", "a/gone 20000 0:0 0:0", `b 40755 0:0 trusted.overlay.opaque="y" epoch`, `b/kept 100755 0:0 "" links 1 epoch`,
			`back 40755 0:0 trusted.overlay.opaque="y"`, `back/again 100755 0:0 "" links 1 epoch`,
			`d 40755 0:0 trusted.overlay.opaque="y" epoch`, `f 100755 0:0 "x" links 1 epoch`, `g 100755 0:0 "" links 1 epoch`,
			`own 40755 0:0 trusted.overlay.opaque="y" epoch`,
		}},
		{"overlay's attributes are dropped", layer, []file{
			{name: "d", kind: dirType, attrs: map[string]string{"trusted.overlay.redirect": "/etc", "user.overlay.opaque": "y", "user.k": "v"}},
		}, []string{`d 40755 0:0 user.k="v" epoch`}},
		{"long names", UntarOptions{}, []file{{name: long, body: "x"}, {name: "h", kind: linkType, link: long}}, nil},
		{"an owner for all", UntarOptions{Owner: &Owner{7, 8}}, []file{{name: "a/b", uid: 1}, {name: "c", kind: symType, link: "x"}}, []string{
			"a 40755 0:0", `a/b 100755 7:8 "" links 1 epoch`, "c 120777 7:8 -> x epoch",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := untar(t, dir, makeTar(t, c.files...), c.o); err != nil {
				t.Fatal(err)
			}
			if c.want == nil {
				data, err := os.ReadFile(filepath.Join(dir, c.files[0].name))
				if err != nil || string(data) != c.files[0].body {
					t.Fatal(string(data), err)
				}
				return
			}
			if got := tree(t, dir); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestUntarRefuses(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name  string
		o     UntarOptions
		files []file
	}{
		{"hard link to nothing", UntarOptions{}, []file{{name: "a", kind: linkType, link: "../outside"}}},
		{"hard link through a link", UntarOptions{}, []file{
			{name: "l", kind: symType, link: "/etc"}, {name: "a", kind: linkType, link: "l/passwd"},
		}},
		{"hard link to a directory", UntarOptions{}, []file{{name: "d", kind: dirType}, {name: "a", kind: linkType, link: "d"}}},
		{"a file as parent", UntarOptions{}, []file{{name: "a"}, {name: "a/b"}}},
		{"links in a ring", UntarOptions{}, []file{{name: "a", kind: symType, link: "b"}, {name: "b", kind: symType, link: "a"}, {name: "a/x"}}},
		{"unknown type", UntarOptions{}, []file{{name: "a", kind: 'Z'}}},
		{"root that is a file", UntarOptions{Layer: true}, []file{{name: "..", body: "x"}}},
		{"whiteout of nothing", UntarOptions{Layer: true}, []file{{name: "a/.wh."}}},
		{"whiteout of the parent", UntarOptions{Layer: true}, []file{{name: "a/.wh..."}}},
		{"long component", UntarOptions{}, []file{{name: strings.Repeat("x", 300)}}},
		{"long path", UntarOptions{}, []file{{name: strings.Repeat("x/", 3000) + "x"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := untar(t, t.TempDir(), makeTar(t, c.files...), c.o)
			if !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("got error %v", err)
			}
		})
	}
}

// TestUntarStaysInside unpacks what tries to write through links that lead out, and looks whether it did.
func TestUntarStaysInside(t *testing.T) {
	needRoot(t)
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := tree(t, outside)
	dir := t.TempDir()
	for _, files := range [][]file{
		{{name: "l", kind: symType, link: outside}, {name: "l/new", body: "x"}},
		{{name: "l", kind: symType, link: victim}, {name: "l", body: "x", mode: 0o666}},
		{{name: "l", kind: symType, link: victim}, {name: "h", kind: linkType, link: "l"}, {name: "h", body: "x"}},
		{{name: "l", kind: symType, link: outside}, {name: "l/victim", kind: linkType, link: "l"}, {name: "l/.wh.victim"}},
		{{name: "l", kind: symType, link: outside}, {name: "l", kind: dirType, mode: 0o777, uid: 5}},
		{{name: "l", kind: symType, link: outside}, {name: "l/.wh..wh..opq"}, {name: "l/victim", mode: 0o777}},
		{{name: "p", kind: symType, link: "/proc/self/root" + outside}, {name: "p/victim", body: "x"}},
		{{name: "d/x"}, {name: "d", kind: symType, link: outside}, {name: "d/victim", body: "x"}},
	} {
		for _, layer := range []bool{false, true} {
			untar(t, dir, makeTar(t, files...), UntarOptions{Layer: layer}) // may fail, must not escape
			if got := tree(t, outside); !slices.Equal(got, before) {
				t.Fatalf("%v escaped:\n%s", files, strings.Join(got, "\n"))
			}
			os.RemoveAll(dir)
			os.Mkdir(dir, 0o755)
		}
	}
}

func TestNoOverwriteDirNonDir(t *testing.T) {
	o := UntarOptions{NoOverwriteDirNonDir: true}
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755)
	os.WriteFile(filepath.Join(dir, "f"), []byte("old"), 0o644)
	for _, c := range []struct {
		entry file
		want  error
	}{
		{file{name: "d", body: "x"}, errdefs.ErrInvalidArgument},
		{file{name: "f", kind: dirType}, errdefs.ErrInvalidArgument},
		{file{name: "f", body: "new"}, nil},
		{file{name: "d", kind: dirType}, nil},
	} {
		c.entry.uid, c.entry.gid = os.Getuid(), os.Getgid()
		if _, err := untar(t, dir, makeTar(t, c.entry), o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.entry.name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "d/sub")); err != nil {
		t.Error("the directory was replaced:", err)
	}
}
