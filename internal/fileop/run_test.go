package fileop

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/treesum"
)

func mkdir(path string, mode int32, parents bool) *pb.FileAction {
	return &pb.FileAction{Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: path, Mode: mode, MakeParents: parents, Timestamp: -1}}}
}

func mkfile(path, data string) *pb.FileAction {
	return &pb.FileAction{Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: path, Mode: 0o640, Data: []byte(data), Timestamp: past.UnixNano()}}}
}

func symlink(target, path string) *pb.FileAction {
	return &pb.FileAction{Action: &pb.FileAction_Symlink{Symlink: &pb.FileActionSymlink{Oldpath: target, Newpath: path, Timestamp: past.UnixNano()}}}
}

func rm(path string, missing, wildcard bool) *pb.FileAction {
	return &pb.FileAction{Action: &pb.FileAction_Rm{Rm: &pb.FileActionRm{Path: path, AllowNotFound: missing, AllowWildcard: wildcard}}}
}

// chain runs actions one after the other on the first input.
func chain(inputs int, actions ...*pb.FileAction) *pb.FileOp {
	op := new(pb.FileOp)
	for i, a := range actions {
		a.SecondaryInput, a.Output = -1, -1
		if a.GetCopy() != nil {
			a.SecondaryInput = 1
		}
		if i > 0 {
			a.Input = int64(inputs + i - 1)
		}
		if i == len(actions)-1 {
			a.Output = 0
		}
		op.Actions = append(op.Actions, a)
	}
	return op
}

// TestSmallActions runs the actions that make or remove one thing, on a base, and looks at the difference to the base.
func TestSmallActions(t *testing.T) {
	w := newWorld(t)
	base := w.layer(baseFiles...)
	for _, c := range []struct {
		name    string
		actions []*pb.FileAction
		want    string // lines that are new, "-" before those that are gone; or what the error says
	}{
		{"mkdir", []*pb.FileAction{mkdir("/n", 0o750, false)}, "040750 0:0 n"},
		{"mkdir there", []*pb.FileAction{mkdir("/app", 0o700, false)}, ""},
		{"mkdir file there", []*pb.FileAction{mkdir("/file", 0o700, false)}, ""},
		{"mkdir no parent", []*pb.FileAction{mkdir("/no/n", 0o700, false)}, "no such file"},
		{"mkdir parents", []*pb.FileAction{mkdir("/p/q/r", 0o711, true)}, "040711 0:0 p,040711 0:0 p/q,040711 0:0 p/q/r"},
		{"mkdir parents there", []*pb.FileAction{mkdir("/link", 0o711, true)}, ""},
		{"mkdir through link", []*pb.FileAction{mkdir("/lib/x", 0o755, true)}, "040755 0:0 usr/lib/x"},
		{"mkdir dangling", []*pb.FileAction{mkdir("/dangling", 0o755, true)}, "040755 0:0 app/new"},
		{"mkdir file in way", []*pb.FileAction{mkdir("/file/x", 0o755, true)}, "not a directory"},
		{"mkdir escape", []*pb.FileAction{mkdir("/escape/x", 0o755, true)}, "040755 0:0 tmp,040755 0:0 tmp/x"},
		{"mkdir loop", []*pb.FileAction{mkdir("/loop/x", 0o755, true)}, "too many"},
		{"mkdir setgid", []*pb.FileAction{mkdir("/mine/x", 0o755, true)}, "040755 0:0 mine/x"},
		{"mkdir root", []*pb.FileAction{mkdir("/", 0o755, true)}, ""},
		{"mkfile", []*pb.FileAction{mkfile("/n", "N")}, "100640 0:0 n N (old)"},
		{"mkfile replaces", []*pb.FileAction{mkfile("/file", "N")}, "-100644 0:0 file f (old),100640 0:0 file N (old)"},
		{"mkfile through link", []*pb.FileAction{mkfile("/app/lnk", "N")}, "-100644 0:0 app/keep k (old),100640 0:0 app/keep N (old)"},
		{"mkfile on dir", []*pb.FileAction{mkfile("/app", "N")}, "is a directory"},
		{"mkfile root", []*pb.FileAction{mkfile("/", "N")}, "is a directory"},
		{"mkfile no parent", []*pb.FileAction{mkfile("/no/n", "N")}, "no such file"},
		{"symlink", []*pb.FileAction{symlink("../x", "/app/s")}, "120777 0:0 app/s -> ../x (old)"},
		{"symlink there", []*pb.FileAction{symlink("x", "/file")}, "file exists"},
		{"rm", []*pb.FileAction{rm("/file", false, false)}, "-100644 0:0 file f (old)"},
		{"rm dir", []*pb.FileAction{rm("/app/dir", false, false)}, "-040755 0:0 app/dir,-040755 0:0 app/dir/x,-100644 0:0 app/dir/x/deep d (old)"},
		{"rm link", []*pb.FileAction{rm("/link", false, false)}, "-120777 0:0 link -> app (old)"},
		{"rm through link", []*pb.FileAction{rm("/link/keep", false, false)}, "-100644 0:0 app/keep k (old)"},
		{"rm missing", []*pb.FileAction{rm("/no", false, false)}, "no such file"},
		{"rm missing allowed", []*pb.FileAction{rm("/no/no", true, false)}, ""},
		{"rm root", []*pb.FileAction{rm("/", true, false)}, "invalid"},
		{"rm wildcard", []*pb.FileAction{rm("/app/[ak]*", false, true)}, "-100644 0:0 app/a.txt old (old),-100644 0:0 app/keep k (old)"},
		{"rm wildcard none", []*pb.FileAction{rm("/zzz*", false, true)}, ""},
		{"rm wildcard through link", []*pb.FileAction{rm("/link/a*", false, true)}, "-100644 0:0 app/a.txt old (old)"},
		{"rm and make file", []*pb.FileAction{rm("/app/dir", false, false), mkfile("/app/dir", "N")}, "-040755 0:0 app/dir,-040755 0:0 app/dir/x,-100644 0:0 app/dir/x/deep d (old),100640 0:0 app/dir N (old)"},
		{"rm and make dir", []*pb.FileAction{rm("/app/dir", false, false), mkdir("/app/dir", 0o755, false)}, "-040755 0:0 app/dir/x,-100644 0:0 app/dir/x/deep d (old)"},
		{"make and rm", []*pb.FileAction{mkfile("/n", "N"), rm("/n", false, false)}, ""},
		{"rm and make twice", []*pb.FileAction{rm("/file", false, false), mkdir("/file", 0o755, false), mkfile("/file/x", "X"), rm("/file", false, false)}, "-100644 0:0 file f (old)"},
		{"mkdir below rm", []*pb.FileAction{rm("/app", false, false), mkdir("/app/dir/z", 0o755, true)}, "-040755 0:0 app/dir/x,-100644 0:0 app/a.txt old (old),-100644 0:0 app/dir/x/deep d (old),-100644 0:0 app/keep k (old),-120777 0:0 app/lnk -> keep (old),040755 0:0 app/dir/z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := w.ops.Run(t.Context(), chain(1, c.actions...), []Source{{Layers: []digest.Digest{base}}}, w.hold)
			if err != nil {
				if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			before, after := w.show(base), w.show(res.Outputs[0].Layers...)
			var lines []string
			if gone := difference(before, after); gone != "" {
				lines = append(lines, "-"+strings.ReplaceAll(gone, "\n", ",-"))
			}
			if made := difference(after, before); made != "" {
				lines = append(lines, strings.ReplaceAll(made, "\n", ","))
			}
			if got := strings.Join(lines, ","); got != c.want {
				t.Errorf("\n%s\nwant\n%s", got, c.want)
			}
			top := res.Outputs[0].Layers[len(res.Outputs[0].Layers)-1]
			if (c.want == "") != (top == layer.Empty) || (c.want == "") != (len(res.Outputs[0].Added) == 0) {
				t.Error("the layer on top is", top)
			}
		})
	}
}

// TestOwnerByName resolves names by the passwd and group of inputs.
func TestOwnerByName(t *testing.T) {
	w := newWorld(t)
	users := w.layer(file{name: "etc/"}, file{name: "etc/passwd", body: "root:x:0:0::/:/\napp:x:101:102::/:/\n"}, file{name: "etc/group", body: "root:x:0:\nstaff:x:50:\n"})
	linked := w.layer(file{name: "etc/"}, file{name: "etc/passwd -> /real/passwd"}, file{name: "real/"}, file{name: "real/passwd", body: "app:x:201:202::/:/\n"})
	hostile := w.layer(file{name: "etc/"}, file{name: "etc/passwd -> ../../../../../../../etc/passwd"})
	name := func(n string, input int64) *pb.UserOpt {
		return &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: n, Input: input}}}
	}
	id := func(n uint32) *pb.UserOpt { return &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: n}} }
	for _, c := range []struct {
		opt   *pb.ChownOpt
		in    digest.Digest
		want  string
		error bool
	}{
		{&pb.ChownOpt{User: name("app", 0)}, users, "101:102", false},
		{&pb.ChownOpt{User: name("app", 0), Group: name("staff", 0)}, users, "101:50", false},
		{&pb.ChownOpt{User: id(7)}, users, "7:7", false},
		{&pb.ChownOpt{User: id(7), Group: id(8)}, users, "7:8", false},
		{&pb.ChownOpt{Group: name("staff", 0)}, users, "0:50", false},
		{&pb.ChownOpt{User: name("nobody-here", 0)}, users, "0:0", false},
		{&pb.ChownOpt{User: name("app", 0)}, linked, "201:202", false},
		{&pb.ChownOpt{User: name("root", 0)}, hostile, "0:0", false},
		{&pb.ChownOpt{User: name("app", 9)}, users, "", true},
	} {
		a := mkdir("/n", 0o755, true)
		a.GetMkdir().Owner = c.opt
		res, err := w.ops.Run(t.Context(), chain(1, a), []Source{{Layers: []digest.Digest{c.in}}}, w.hold)
		if c.error {
			if !errdefs.IsInvalidArgument(err) {
				t.Error(c.opt, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := w.show(res.Outputs[0].Layers...); !strings.Contains(got, "040755 "+c.want+" n") {
			t.Errorf("%v: %s", c.opt, got)
		}
	}
}

// TestGraph has an action's result used twice, by others and as an output.
func TestGraph(t *testing.T) {
	w := newWorld(t)
	copyAll := func(in, from int64, dst string, out int64) *pb.FileAction {
		return &pb.FileAction{Input: in, SecondaryInput: from, Output: out, Action: &pb.FileAction_Copy{Copy: dockerfile("/", dst)}}
	}
	first, second := mkfile("/a", "A"), mkfile("/b", "B")
	first.Input, first.SecondaryInput, first.Output = -1, -1, 1
	second.Input, second.SecondaryInput, second.Output = 0, -1, -1
	op := &pb.FileOp{Actions: []*pb.FileAction{first, second, copyAll(1, 0, "/one", 0), copyAll(1, 2, "/two", 2)}}
	res := w.run(op)
	want := []string{
		"040755 0:0 one\n100640 0:0 a A (old)\n100640 0:0 b B (old)\n100640 0:0 one/a A (old)",
		"100640 0:0 a A (old)",
		"040755 0:0 two\n040755 0:0 two/one\n100640 0:0 a A (old)\n100640 0:0 b B (old)\n100640 0:0 two/a A (old)\n100640 0:0 two/b B (old)\n" +
			"100640 0:0 two/one/a A (old)",
	}
	for i, out := range res.Outputs {
		if got := w.show(out.Layers...); got != want[i] {
			t.Errorf("output %d:\n%s\nwant\n%s", i, got, want[i])
		}
	}
	for name, bad := range map[string]*pb.FileOp{
		"no outputs": {Actions: []*pb.FileAction{mkdir("/a", 0o755, true)}},
		"input":      chain(1, func() *pb.FileAction { a := mkdir("/a", 0o755, true); a.Input = 5; return a }()),
		"negative":   chain(1, func() *pb.FileAction { a := mkdir("/a", 0o755, true); a.Input = -2; return a }()),
		"empty":      {},
	} {
		if bad.Actions != nil && name == "no outputs" {
			bad.Actions[0].Output = -1
		}
		if _, err := w.ops.Run(t.Context(), bad, nil, w.hold); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLocal copies from a directory in place: filtered, root's, and noticed when it changes.
func TestLocal(t *testing.T) {
	w := newWorld(t)
	l := local(t, file{name: "a", body: "A", uid: 5, gid: 6}, file{name: "d/b", body: "B", uid: 5}, file{name: "d/skip.md", body: "S"}, file{name: "secret", body: "!"})
	l.Filter = treesum.Filter{Exclude: []string{"**/*.md", "secret"}}
	op := copyOp(dockerfile("/", "/"))
	d, all, err := w.ops.InputDigest(t.Context(), op, 1, Source{Local: l})
	if err != nil || all || d == "" {
		t.Fatal(d, all, err)
	}
	if _, all, err := w.ops.InputDigest(t.Context(), op, 0, Source{}); !all || err != nil {
		t.Error("the base of a copy counts in part only", err)
	}
	res := w.run(op, Source{}, Source{Local: l})
	if got, want := w.show(res.Outputs[0].Layers...), "040755 0:0 d\n100644 0:0 a A (old)\n100644 0:0 d/b B (old)"; got != want || res.Unstable {
		t.Errorf("unstable %v\n%s", res.Unstable, got)
	}
	// The tree was read; now it changes.
	if err := os.WriteFile(filepath.Join(l.Dir, "d/b"), []byte("BB"), 0o644); err != nil {
		t.Fatal(err)
	}
	res = w.run(op, Source{}, Source{Local: l})
	if got := w.show(res.Outputs[0].Layers...); !res.Unstable || !strings.Contains(got, "d/b BB") {
		t.Errorf("unstable %v\n%s", res.Unstable, got)
	}
	if err := os.RemoveAll(filepath.Join(l.Dir, "d")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(l.Dir, "d")); err != nil {
		t.Fatal(err)
	}
	res = w.run(op, Source{}, Source{Local: l})
	if got := w.show(res.Outputs[0].Layers...); !res.Unstable || strings.Contains(got, "root:") {
		t.Errorf("unstable %v\n%s", res.Unstable, got)
	}
	whole, err := w.ops.Layers(t.Context(), Source{Local: l}, w.hold)
	if err != nil || len(whole.Outputs[0].Layers) != 1 {
		t.Error(whole, err)
	}
	var names []string
	err = w.ops.InputFiles(t.Context(), op, 1, Source{Local: l}, func(name string, _ digest.Digest) bool { names = append(names, name); return true })
	if err != nil || !slices.Equal(names, []string{"a", "d", "d/b"}) {
		t.Error(names, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.ops.SelectDigest(t.Context(), treesum.Selection{Path: "/"}, Source{Local: l}); err == nil {
		t.Error("a closed directory is read")
	}
}

// TestLinksAndHoles copies files with several names, holes, attributes, FIFOs and devices.
func TestLinksAndHoles(t *testing.T) {
	w := newWorld(t)
	l := local(t, file{name: "a", body: "A"}, file{name: "d/"})
	at := func(n string) string { return filepath.Join(l.Dir, n) }
	for _, err := range []error{
		os.Link(at("a"), at("d/b")), os.Link(at("a"), at("z")), os.WriteFile(at("holes"), []byte("x"), 0o644), os.Truncate(at("holes"), 100<<20),
		unix.Setxattr(at("a"), "user.k", []byte("v"), 0), unix.Mkfifo(at("fifo"), 0o644),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), os.WriteFile(at("big"), bytes.Repeat([]byte("0123456789"), 1<<17), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	res := w.run(copyOp(dockerfile("/", "/x/")), Source{}, Source{Local: l})
	root, err := w.layers.OpenStack(res.Outputs[0].Layers)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	a, _ := root.Lstat("/x/a")
	b, _ := root.Lstat("/x/d/b")
	z, _ := root.Lstat("/x/z")
	holes, _ := root.Lstat("/x/holes")
	null, _ := root.Lstat("/x/null")
	fifo, _ := root.Lstat("/x/fifo")
	if a.Ino != b.Ino || a.Ino != z.Ino || a.Nlink != 3 {
		t.Error("names of one file:", a, b, z)
	}
	if holes.Size != 100<<20 || holes.Blocks*512 > 1<<20 {
		t.Errorf("holes: %d bytes, %d blocks", holes.Size, holes.Blocks)
	}
	if null.Rdev != unix.Mkdev(1, 3) || fifo.Mode&unix.S_IFMT != unix.S_IFIFO {
		t.Error(null, fifo)
	}
	if v, err := root.ReadFile("/x/big", 2<<20); err != nil || len(v) != 10<<17 {
		t.Error(len(v), err)
	}
	var value [4]byte
	if n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d/x/a", root.Fd()), "user.k", value[:]); err != nil || string(value[:n]) != "v" {
		t.Error(n, err)
	}
}

// archiveOf is a tar with a few things in it.
func archiveOf(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Name: "in/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: past},
		{Name: "in/f", Typeflag: tar.TypeReg, Size: 1, Mode: 0o600, Uid: 3, ModTime: past},
		{Name: "../../out", Typeflag: tar.TypeReg, Size: 1, Mode: 0o600, ModTime: past},
		{Name: "keep", Typeflag: tar.TypeSymlink, Linkname: "/etc", ModTime: past},
		{Name: "keep/passwd", Typeflag: tar.TypeReg, Size: 1, Mode: 0o600, ModTime: past},
		{Name: "odd/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: past, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/etc"}},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := tw.Write([]byte("T")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUnpack(t *testing.T) {
	w := newWorld(t)
	raw := archiveOf(t)
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	if _, err := zw.Write(raw); err != nil || zw.Close() != nil {
		t.Fatal(err)
	}
	add := func(src, dst string) *pb.FileActionCopy {
		c := dockerfile(src, dst)
		c.AttemptUnpackDockerCompatibility = true
		return c
	}
	l := local(t, file{name: "a.tar", body: string(raw)}, file{name: "a.tgz", body: z.String()}, file{name: "cut.tar", body: string(raw[:700])}, file{name: "text", body: "no archive"})
	base := w.layer(baseFiles...)
	onto := w.show(w.run(copyOp(add("/a.tar", "/app")), Source{Layers: []digest.Digest{base}}, Source{Local: l}).Outputs[0].Layers...)
	for _, line := range []string{
		"100600 3:0 app/in/f T (old)", "100600 0:0 app/out T (old)", "120777 0:0 app/keep -> /etc (old)", "100600 0:0 etc/passwd T (old)", "100644 0:0 app/a.txt old (old)",
	} {
		if !strings.Contains(onto, line) {
			t.Errorf("%s is missing in\n%s", line, onto)
		}
	}
	for _, src := range []string{"/a.tar", "/a.tgz"} {
		fresh := w.show(w.run(copyOp(add(src, "/new/dir")), Source{}, Source{Local: l}).Outputs[0].Layers...)
		if !strings.Contains(fresh, "100600 3:0 new/dir/in/f T (old)") || strings.Contains(fresh, "a.t") {
			t.Errorf("%s: %s", src, fresh)
		}
	}
	if got := w.show(w.run(copyOp(add("/text", "/new/")), Source{}, Source{Local: l}).Outputs[0].Layers...); !strings.Contains(got, "new/text no archive") {
		t.Error(got)
	}
	if _, err := w.ops.Run(t.Context(), copyOp(add("/cut.tar", "/new/")), []Source{{}, {Local: l}}, w.hold); !errdefs.IsInvalidArgument(err) {
		t.Error("a tar that is cut off:", err)
	}
	owned := add("/a.tar", "/o")
	owned.Owner = &pb.ChownOpt{User: &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: 42}}}
	if got := w.show(w.run(copyOp(owned), Source{}, Source{Local: l}).Outputs[0].Layers...); !strings.Contains(got, "100600 42:42 o/in/f") || !strings.Contains(got, "040755 42:42 o\n") {
		t.Error(got)
	}
}

func TestUnpackXz(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("needs the program xz")
	}
	w := newWorld(t)
	l := local(t, file{name: "a.tar", body: string(archiveOf(t))})
	if out, err := exec.CommandContext(t.Context(), "xz", filepath.Join(l.Dir, "a.tar")).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	c := dockerfile("/a.tar.xz", "/x/")
	c.AttemptUnpackDockerCompatibility = true
	if got := w.show(w.run(copyOp(c), Source{}, Source{Local: l}).Outputs[0].Layers...); !strings.Contains(got, "x/in/f T") {
		t.Error(got)
	}
}

func TestMergeAndDiff(t *testing.T) {
	w := newWorld(t)
	a := w.layer(file{name: "d/"}, file{name: "d/a", body: "A"}, file{name: "both", body: "a"}, file{name: "gone", body: "g"}, file{name: "kind/"}, file{name: "kind/x"})
	b := w.layer(file{name: "d/"}, file{name: "d/b", body: "B"}, file{name: "both", body: "b"})
	merged, err := w.ops.Merge(t.Context(), []Source{{Layers: []digest.Digest{a}}, {}, {Layers: []digest.Digest{b, layer.Empty}}, {Layers: []digest.Digest{b}}}, w.hold)
	if err != nil || !slices.Equal(merged.Outputs[0].Layers, []digest.Digest{a, layer.Empty, b}) {
		t.Fatal(merged, err)
	}
	if got := w.show(merged.Outputs[0].Layers...); !strings.Contains(got, "d/a A") || !strings.Contains(got, "d/b B") || !strings.Contains(got, "both b") {
		t.Error(got)
	}
	// A stack and what was put on it.
	suffix, err := w.ops.Diff(t.Context(), Source{Layers: []digest.Digest{a}}, Source{Layers: []digest.Digest{a, b}}, w.hold)
	if err != nil || !slices.Equal(suffix.Outputs[0].Layers, []digest.Digest{b}) {
		t.Error(suffix, err)
	}
	same, err := w.ops.Diff(t.Context(), Source{Layers: []digest.Digest{a}}, Source{Layers: []digest.Digest{a}}, w.hold)
	if err != nil || len(same.Outputs[0].Layers) != 0 {
		t.Error(same, err)
	}
	// Two trees that have nothing to do with each other.
	c := w.layer(file{name: "d/", mode: 0o700}, file{name: "d/a", body: "A"}, file{name: "both", body: "c"}, file{name: "kind", body: "K"}, file{name: "new/"}, file{name: "new/n", body: "N"})
	diff, err := w.ops.Diff(t.Context(), Source{Layers: []digest.Digest{a}}, Source{Layers: []digest.Digest{c}}, w.hold)
	if err != nil || len(diff.Outputs[0].Layers) != 1 {
		t.Fatal(diff, err)
	}
	if got, want := w.show(append([]digest.Digest{a}, diff.Outputs[0].Layers...)...), w.show(c); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := w.show(diff.Outputs[0].Layers...); strings.Contains(got, "d/a") {
		t.Errorf("what both have is in the difference:\n%s", got)
	}
	// Removals go along when the difference is merged onto something else.
	other := w.layer(file{name: "gone", body: "other"}, file{name: "stays", body: "s"})
	onto, err := w.ops.Merge(t.Context(), []Source{{Layers: []digest.Digest{other}}, {Layers: diff.Outputs[0].Layers}}, w.hold)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.show(onto.Outputs[0].Layers...); strings.Contains(got, "gone") || !strings.Contains(got, "stays") {
		t.Error(got)
	}
}

// TestManyFiles copies more files than one batch holds, and looks whether all are there.
func TestManyFiles(t *testing.T) {
	w := newWorld(t)
	var files []file
	for i := range 40 {
		for j := range 50 {
			files = append(files, file{name: fmt.Sprintf("d%d/f%d", i, j), body: fmt.Sprint(i, " ", j)})
		}
	}
	l := local(t, files...)
	before, err := w.ops.SelectDigest(t.Context(), treesum.Selection{Path: "/d*", Wildcard: true}, Source{Local: l})
	if err != nil {
		t.Fatal(err)
	}
	res := w.run(copyOp(dockerfile("/", "/x/")), Source{}, Source{Local: l})
	after, err := w.ops.SelectDigest(t.Context(), treesum.Selection{Path: "/x/d*", Wildcard: true}, Source{Layers: res.Outputs[0].Layers})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(w.show(res.Outputs[0].Layers...), "\n"); n != 40*51 {
		t.Error(n, "files")
	}
	if before != after {
		t.Error("the copy has another digest than what was copied")
	}
}

// TestCopyUpKeepsTimes puts a file deep into a base: only the directory that gets it is changed by that.
func TestCopyUpKeepsTimes(t *testing.T) {
	w := newWorld(t)
	base := w.layer(file{name: "usr/"}, file{name: "usr/local/"}, file{name: "usr/local/bin/", mode: 0o711, uid: 3})
	l := local(t, file{name: "tool", body: "T"})
	res := w.run(copyOp(dockerfile("/tool", "/usr/local/bin/")), Source{Layers: []digest.Digest{base}}, Source{Local: l})
	root, err := w.layers.OpenStack(res.Outputs[0].Layers)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, old := range map[string]bool{"/usr": true, "/usr/local": true, "/usr/local/bin": false} {
		st, err := root.Stat(name)
		if err != nil || (st.Mtim.Sec == past.Unix()) != old {
			t.Error(name, st.Mtim, err)
		}
	}
	if st, err := root.Stat("/usr/local/bin"); err != nil || st.Mode&0o7777 != 0o711 || st.Uid != 3 {
		t.Error(st, err)
	}
}

// TestCopiesAtOnce has several copies of one directory in place at a time, as independent steps of a build have.
func TestCopiesAtOnce(t *testing.T) {
	w := newWorld(t)
	l := local(t, contextFiles...)
	l.Filter = treesum.Filter{Exclude: []string{"**/*.md", "tree/v"}}
	g, ctx := errgroup.WithContext(t.Context())
	for _, src := range []string{"/", "/dir", "/tree", "/*", "/tree/p", "/dir/sub", "/", "/a.txt"} {
		g.Go(func() error {
			op := copyOp(dockerfile(src, "/x/"))
			if src == "/*" {
				op = copyOp(dockerfile("/d*", "/x/"))
			}
			if _, _, err := w.ops.InputDigest(ctx, op, 1, Source{Local: l}); err != nil {
				return err
			}
			_, err := w.ops.Run(ctx, op, []Source{{}, {Local: l}}, w.hold)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
