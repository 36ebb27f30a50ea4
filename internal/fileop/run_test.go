package fileop

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/treesum"
)

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
