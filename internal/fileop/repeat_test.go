package fileop

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/treesum"
)

// contexts is a directory of the client that tests change at random.
type contexts struct {
	t    *testing.T
	dir  string
	rand *rand.Rand
	now  time.Time
}

func (c *contexts) write(name string, size int) {
	c.t.Helper()
	at := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		c.t.Fatal(err)
	}
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(c.rand.Uint32())
	}
	if err := os.WriteFile(at, body, 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.touch(at)
}

func (c *contexts) touch(at string) {
	c.now = c.now.Add(time.Second)
	ts := unix.NsecToTimespec(c.now.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		c.t.Fatal(err)
	}
}

func (c *contexts) some() string {
	return fmt.Sprintf("d%d/s%d/f%d", c.rand.IntN(6), c.rand.IntN(5), c.rand.IntN(80))
}

// change makes one change of any kind.
func (c *contexts) change() string {
	name := c.some()
	at := filepath.Join(c.dir, name)
	kind := c.rand.IntN(9)
	switch kind {
	case 0, 1, 2:
		c.write(name, c.rand.IntN(30_000))
	case 3:
		c.write(name+"-new", c.rand.IntN(100))
	case 4:
		os.Chmod(at, uint32ToMode(c.rand.Uint32()))
	case 5:
		os.Remove(at)
	case 6:
		os.Remove(at)
		os.Symlink("somewhere/"+name, at)
	case 7:
		os.Remove(at)
		os.Link(filepath.Join(c.dir, c.some()), at)
	case 8:
		os.RemoveAll(at)
		c.write(name+"/below", 10)
	}
	return fmt.Sprintf("%d %s", kind, name)
}

func uint32ToMode(n uint32) os.FileMode { return os.FileMode(n&0o777 | 0o400) }

// copied copies the context as a build does, and returns the stack.
func (w *world) copied(dir, key, dst string, base ...digest.Digest) []digest.Digest {
	w.t.Helper()
	l := &Local{Dir: dir, Key: key}
	defer l.Close()
	op := copyOp(dockerfile("/", dst))
	if _, _, err := w.ops.InputDigest(w.t.Context(), op, 1, Source{Local: l}); err != nil {
		w.t.Fatal(err)
	}
	res := w.run(op, Source{Layers: base}, Source{Local: l})
	return res.Outputs[0].Layers
}

// TestRepeat changes a context at random again and again, and copies it once over what was copied before and once as a whole, in
// another store: the digests must be equal, and so the files.
func TestRepeat(t *testing.T) {
	w, fresh := newWorld(t), newWorld(t)
	c := &contexts{t, t.TempDir(), rand.New(rand.NewPCG(20261122, 0)), past}
	for i := range 6 * 5 * 80 {
		c.write(fmt.Sprintf("d%d/s%d/f%d", i/400, i/80%5, i%80), c.rand.IntN(20_000))
	}
	files := []file{{name: "etc/"}, {name: "etc/passwd", body: "root:x:0:0::/:\n"}, {name: "app/"}, {name: "app/d1/"}, {name: "app/d1/here", body: "x"}}
	base, other := w.layer(files...), fresh.layer(files...)
	over := 0
	for round := range 12 {
		var what []string
		for range c.rand.IntN(3) {
			what = append(what, c.change())
		}
		got := w.copied(c.dir, "context", "/app/", base)
		want := fresh.copied(c.dir, "", "/app/", other)
		if got[1] != want[1] {
			t.Fatalf("round %d (%s): copied over: %s, as a whole: %s\n%s", round, what, got[1], want[1], apart(w.show(got...), fresh.show(want...)))
		}
		if err := w.layers.WriteTar(t.Context(), got[1], io.Discard); err != nil {
			t.Fatalf("round %d (%s): %v", round, what, err)
		}
		if round%4 == 3 {
			if d := apart(w.show(got...), fresh.show(want...)); d != "" {
				t.Fatalf("round %d (%s): %s", round, what, d)
			}
		}
		parts := 0
		w.layers.Parts(got[1], func(digest.Digest, int64) { parts++ })
		if parts > 1 {
			over++
		}
	}
	t.Log(over, "of 12 lay over another one")
}

// apart is the first lines by which two listings differ.
func apart(a, b string) string {
	if a == b {
		return ""
	}
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("%.200q\n%.200q", x[i], y[i])
		}
	}
	return fmt.Sprintf("%d lines, %d lines", len(x), len(y))
}

// large makes a context that is worth remembering.
func large(t *testing.T) *contexts {
	c := &contexts{t, t.TempDir(), rand.New(rand.NewPCG(1, 2)), past}
	for i := range 300 {
		c.write(fmt.Sprintf("d%d/f%d", i/20, i%20), 64<<10)
	}
	return c
}

// TestRepeatOver sees to it that what did not change is not copied, and stays when only the new layer is wanted.
func TestRepeatOver(t *testing.T) {
	w := newWorld(t)
	c := large(t)
	first := w.copied(c.dir, "context", "/app")
	again := w.copied(c.dir, "context", "/app")
	if again[0] != first[0] {
		t.Error("nothing changed, and the layer is another one")
	}
	c.write("d7/f7", 100)
	c.write("d9/new", 100)
	second := w.copied(c.dir, "context", "/app")
	own := map[digest.Digest]int64{}
	w.layers.Parts(second[0], func(d digest.Digest, n int64) { own[d] = n })
	if len(own) != 2 || own[second[0]] > 100<<10 || own[first[0]] < 15<<20 {
		t.Fatal("parts:", own)
	}
	if size, _ := w.layers.Size(second[0]); size != own[first[0]]+own[second[0]] {
		t.Error("size", size)
	}
	w.hold.Release()
	won, err := w.layers.Collect(t.Context(), func(d digest.Digest) bool { return d == second[0] })
	if err != nil || won != 0 || !w.layers.Has(first[0]) {
		t.Error("collected what the new layer lies over:", won, err)
	}
	if !strings.Contains(w.show(second...), "app/d14/f19") {
		t.Error("files are missing")
	}
	won, err = w.layers.Collect(t.Context(), func(digest.Digest) bool { return false })
	if err != nil || won != own[first[0]]+own[second[0]] || w.layers.Has(first[0]) {
		t.Error("collected", won, err)
	}
	w.hold = w.layers.Hold()
	if third := w.copied(c.dir, "context", "/app"); third[0] != second[0] {
		t.Error("the whole is", third[0], "and was", second[0])
	}
}

// TestPastDamaged has a remembered copy damaged: it is as good as none.
func TestPastDamaged(t *testing.T) {
	w := newWorld(t)
	c := large(t)
	dir := t.TempDir()
	trees, err := treesum.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w.ops = New(w.layers, trees)
	w.copied(c.dir, "context", "/app")
	names, _ := filepath.Glob(filepath.Join(dir, "*.past"))
	if len(names) != 1 {
		t.Fatal(names)
	}
	raw, _ := os.ReadFile(names[0])
	raw[len(raw)/2] ^= 1
	os.WriteFile(names[0], raw, 0o600)
	c.write("d7/f7", 100)
	got := w.copied(c.dir, "context", "/app")
	parts := 0
	w.layers.Parts(got[0], func(digest.Digest, int64) { parts++ })
	if parts != 1 {
		t.Error("a damaged record was used")
	}
}
