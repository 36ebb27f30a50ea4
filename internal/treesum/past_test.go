package treesum

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/sys"
)

// pastOf looks at a directory as a build does.
func pastOf(t *testing.T, c *Cache, dir string) *Selected {
	t.Helper()
	root, err := sys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	tree, err := c.Scan(t.Context(), root, "", Filter{})
	if err != nil {
		t.Fatal(err)
	}
	all := Selection{Path: "/", Root: true}
	if _, err := tree.Digest(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	sel, err := tree.Select(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

// changed are the paths that have changed, the directories above them too.
func changed(s *Selected, c *Changes) string {
	if c == nil {
		return "more"
	}
	var list []string
	s.walk(s.Matches[0].Node, "", func(n *Node, name string) bool {
		if c.Has(n) {
			list = append(list, "/"+name)
		}
		return true
	})
	return strings.Join(list, " ")
}

func TestPastChanges(t *testing.T) {
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"a", "d/x", "d/y", "d-e/z", "e/deep/er/f"} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, step := range []struct {
		what string
		do   func() error
		want string
	}{
		{"nothing", func() error { return nil }, ""},
		{"content", func() error { return os.WriteFile(at("d/y"), []byte("new"), 0o644) }, "/ /d /d/y"},
		{"mode", func() error { return os.Chmod(at("e/deep/er/f"), 0o600) }, "/ /e /e/deep /e/deep/er /e/deep/er/f"},
		{"more", func() error { return os.WriteFile(at("d/a"), nil, 0o644) }, "/ /d /d/a"},
		{"another name", func() error { return os.Link(at("d/x"), at("d-e/x")) }, "/ /d /d/x /d-e /d-e/x"},
		{"kind", func() error { return os.Remove(at("d/a")) }, "more"},
		{"a directory gone", func() error { return os.RemoveAll(at("e/deep")) }, "more"},
	} {
		before := pastOf(t, c, dir).Past("one")
		if err := c.Keep("key", before); err != nil {
			t.Fatal(err)
		}
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		past := c.Past("key")
		if past == nil || past.ID != "one" || past.Files != before.Files || past.Bytes != before.Bytes {
			t.Fatal(step.what, "kept:", past)
		}
		now := pastOf(t, c, dir)
		if got := changed(now, past.Changes(now)); got != step.want {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
	}
	if c.Past("another") != nil {
		t.Error("something is kept under a key that was not used")
	}
}

// FuzzPast reads what nobody has written: it must not fail, and tell of changes at most.
func FuzzPast(f *testing.F) {
	c, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\x00\x00aaaaaaaaaaaaaaaa\x00\x01baaaaaaaaaaaaaaaa"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"))
	dir := f.TempDir()
	os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644)
	f.Fuzz(func(t *testing.T, entries []byte) {
		sel := pastOf(t, c, dir)
		(&Past{entries: entries}).Changes(sel)
	})
}

func TestWalkOrder(t *testing.T) {
	want := []string{"", "a", "a/b", "a/b/c", "a/c", "a-", "a-/x", "a.b", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, func(x, y string) int { return compareBytes([]byte(x), y) })
	// The top comes first, and "a/..." before "a-", although "-" sorts before "/".
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
