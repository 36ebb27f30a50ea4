package treesum

import (
	"context"
	"fmt"
	gofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plant makes files: "dir/", "link -> target", "file", or "file=body".
func plant(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		at := filepath.Join(dir, name)
		var err error
		if link, target, ok := strings.Cut(name, " -> "); ok {
			if err = os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o755); err == nil {
				err = os.Symlink(target, filepath.Join(dir, link))
			}
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(at, 0o755)
		} else {
			name, body, _ := strings.Cut(name, "=")
			at = filepath.Join(dir, name)
			if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
				err = os.WriteFile(at, []byte(body), 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func scan(t testing.TB, dir, key string, c *Cache, f Filter) *Tree {
	t.Helper()
	if c == nil {
		var err error
		if c, err = Open(t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	root, err := sys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	tree, err := c.Scan(t.Context(), root, key, f)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func files(t testing.TB, tree *Tree, sel Selection) []string {
	t.Helper()
	seq, err := tree.Files(t.Context(), sel)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for name := range seq {
		list = append(list, name)
	}
	return list
}

func sumOf(t testing.TB, dir string, sel Selection) digest.Digest {
	t.Helper()
	d, err := scan(t, dir, "", nil, Filter{}).Digest(t.Context(), sel)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var filterTree = []string{
	"a.txt", "b.md", "README.md", "src/main.go", "src/main_test.go", "src/lib/lib.go", "src/lib/doc.md", "src/lib/deep/x.md", "docs/a.md", "docs/b.txt",
	"node_modules/p/index.js", "node_modules/p/README.md", "sub/node_modules/q/index.js", "empty/", ".git/HEAD", ".git/objects/aa", ".dockerignore",
	"link -> src/lib", "abs -> /docs", "chain -> link", "broken -> nowhere", "loop -> loop", "up -> ../../src", "src/inner -> ../docs/a.md",
	"ring/a -> b", "ring/b -> a", "deep/1/2/3/4/f", "deep/1/2/g",
}

// TestFilterAsBuildKit lists what filters leave, by this package and by the one with which BuildKit sends contexts.
func TestFilterAsBuildKit(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, filterTree...)
	for _, f := range []Filter{
		{},
		{Exclude: []string{"*.md"}},
		{Exclude: []string{"**/*.md", "!README.md"}},
		{Exclude: []string{"node_modules", ".git"}},
		{Exclude: []string{"**/node_modules"}},
		{Exclude: []string{"*", "!src"}},
		{Exclude: []string{"**", "!src/lib/*.go"}},
		{Exclude: []string{"src", "!src/lib/doc.md"}},
		{Exclude: []string{"src/**", "!**/*.md"}},
		{Exclude: []string{"docs/*", "!docs/a.md", "docs/a.md"}},
		{Exclude: []string{"src/lib/", "/docs"}},
		{Exclude: []string{"*/lib", "empty"}},
		{Exclude: []string{"deep/1", "!deep/1/2/3"}},
		{Include: []string{"src"}},
		{Include: []string{"**/*.go"}},
		{Include: []string{"docs/*.md", "a.txt"}},
		{Include: []string{"src/lib/deep"}},
		{Include: []string{"src"}, Exclude: []string{"**/*.md"}},
		{Include: []string{"nothing"}},
		{Include: []string{"*/*/*.md"}},
		{Include: []string{"deep/1/*/3"}, Exclude: []string{"**/f"}},
		{Include: []string{"src", "!src/lib"}},
		{FollowPaths: []string{"a.txt"}},
		{FollowPaths: []string{"link"}},
		{FollowPaths: []string{"link/doc.md"}},
		{FollowPaths: []string{"chain"}},
		{FollowPaths: []string{"chain/deep"}},
		{FollowPaths: []string{"abs"}},
		{FollowPaths: []string{"broken"}},
		{FollowPaths: []string{"loop"}},
		{FollowPaths: []string{"up/lib"}},
		{FollowPaths: []string{"src/inner"}},
		{FollowPaths: []string{"."}},
		{FollowPaths: []string{"/"}},
		{FollowPaths: []string{"s*"}},
		{FollowPaths: []string{"*/lib"}},
		{FollowPaths: []string{"l*"}},
		{FollowPaths: []string{"ring/a"}},
		{FollowPaths: []string{"missing/x"}},
		{FollowPaths: []string{"src", "src/lib"}},
		{FollowPaths: []string{"src"}, Exclude: []string{"src/lib", "**/*_test.go"}},
		{FollowPaths: []string{"link"}, Exclude: []string{"**/*.md", "!**/x.md"}},
		{FollowPaths: []string{"a.txt"}, Include: []string{"docs"}},
	} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			fsys, err := fsutil.NewFS(dir)
			if err != nil {
				t.Fatal(err)
			}
			opt := &fsutil.FilterOpt{IncludePatterns: f.Include, ExcludePatterns: f.Exclude, FollowPaths: f.FollowPaths}
			if fsys, err = fsutil.NewFilterFS(fsys, opt); err != nil {
				t.Fatal(err)
			}
			var want []string
			err = fsys.Walk(t.Context(), "", func(name string, _ gofs.DirEntry, err error) error {
				want = append(want, name)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			got := files(t, scan(t, dir, "", nil, f), Selection{Path: "/"})
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestFollowTwoThroughOneLink has two paths behind one link: both are included.
func TestFollowTwoThroughOneLink(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, "real/x", "real/y", "real/z", "l -> real")
	got := files(t, scan(t, dir, "", nil, Filter{FollowPaths: []string{"l/x", "l/y"}}), Selection{Path: "/"})
	if want := []string{"l", "real", "real/x", "real/y"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestDigestOf changes one thing at a time and says whether it counts.
func TestDigestOf(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners and devices")
	}
	make := func(t *testing.T) string {
		dir := t.TempDir()
		plant(t, dir, "d/a=A", "d/b=B", "d/l -> a", "d/e/")
		return dir
	}
	plain := sumOf(t, make(t), Selection{Path: "/"})
	for name, c := range map[string]struct {
		change func(at func(string) string) error
		counts bool
	}{
		"nothing":   {func(func(string) string) error { return nil }, false},
		"time":      {func(at func(string) string) error { return os.Chtimes(at("d/a"), time.Unix(1, 0), time.Unix(1, 0)) }, false},
		"dir time":  {func(at func(string) string) error { return os.Chtimes(at("d"), time.Unix(1, 0), time.Unix(1, 0)) }, false},
		"hard link": {func(at func(string) string) error { return os.Link(at("d/a"), filepath.Join(t.TempDir(), "x")) }, false},
		"content":   {func(at func(string) string) error { return os.WriteFile(at("d/a"), []byte("a"), 0o644) }, true},
		"mode":      {func(at func(string) string) error { return os.Chmod(at("d/a"), 0o600) }, true},
		"dir mode":  {func(at func(string) string) error { return os.Chmod(at("d/e"), 0o700) }, true},
		"owner":     {func(at func(string) string) error { return os.Chown(at("d/a"), 1, 0) }, true},
		"group":     {func(at func(string) string) error { return os.Lchown(at("d/l"), 0, 1) }, true},
		"target":    {func(at func(string) string) error { _ = os.Remove(at("d/l")); return os.Symlink("b", at("d/l")) }, true},
		"rename":    {func(at func(string) string) error { return os.Rename(at("d/a"), at("d/c")) }, true},
		"new":       {func(at func(string) string) error { return os.Mkdir(at("d/n"), 0o755) }, true},
		"gone":      {func(at func(string) string) error { return os.Remove(at("d/e")) }, true},
		"kind": {func(at func(string) string) error {
			_ = os.Remove(at("d/e"))
			return os.WriteFile(at("d/e"), nil, 0o755)
		}, true},
		"xattr":     {func(at func(string) string) error { return unix.Setxattr(at("d/a"), "user.k", []byte("v"), 0) }, true},
		"dir xattr": {func(at func(string) string) error { return unix.Setxattr(at("d"), "user.k", []byte("v"), 0) }, true},
		"link attr": {func(at func(string) string) error { return unix.Lsetxattr(at("d/l"), "trusted.k", []byte("v"), 0) }, true},
		"overlay's": {func(at func(string) string) error {
			return unix.Setxattr(at("d/a"), "trusted.overlay.origin", []byte("v"), 0)
		}, false},
		"device": {func(at func(string) string) error {
			return unix.Mknod(at("d/dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		}, true},
		"fifo":   {func(at func(string) string) error { return unix.Mkfifo(at("d/fifo"), 0o600) }, true},
		"socket": {func(at func(string) string) error { return unix.Mknod(at("d/s"), unix.S_IFSOCK|0o600, 0) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := make(t)
			if err := c.change(func(n string) string { return filepath.Join(dir, n) }); err != nil {
				t.Fatal(err)
			}
			if got := sumOf(t, dir, Selection{Path: "/"}); (got != plain) != c.counts {
				t.Errorf("it counts: %v", got != plain)
			}
		})
	}
	t.Run("device number", func(t *testing.T) {
		var sums []digest.Digest
		for _, minor := range []uint32{3, 5} {
			dir := t.TempDir()
			if err := unix.Mknod(filepath.Join(dir, "n"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, minor))); err != nil {
				t.Fatal(err)
			}
			sums = append(sums, sumOf(t, dir, Selection{Path: "/"}))
		}
		if sums[0] == sums[1] {
			t.Error("it does not count")
		}
	})
	t.Run("root's", func(t *testing.T) {
		dir := make(t)
		if err := os.Chown(filepath.Join(dir, "d/a"), 5, 6); err != nil {
			t.Fatal(err)
		}
		if sumOf(t, dir, Selection{Path: "/", Root: true}) != plain {
			t.Error("the owner counts where all is root's")
		}
	})
}

// TestDigestIsUnambiguous has trees whose names and contents, run together, are the same.
func TestDigestIsUnambiguous(t *testing.T) {
	seen := map[digest.Digest]string{}
	for _, names := range [][]string{{"a/", "b"}, {"a/b"}, {"a", "b/"}, {"ab/"}, {"ab"}, {"a=b"}, {"a", "b"}, {"a/b/"}, {"a -> b"}, {}} {
		dir := t.TempDir()
		plant(t, dir, names...)
		d := sumOf(t, dir, Selection{Path: "/"})
		if other, ok := seen[d]; ok {
			t.Errorf("%q has the digest of %s", names, other)
		}
		seen[d] = fmt.Sprint(names)
	}
}

func TestSelect(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, filterTree...)
	for _, c := range []struct {
		sel  Selection
		want string // matches, or an error's code
	}{
		{Selection{Path: "/"}, "="},
		{Selection{Path: ""}, "="},
		{Selection{Path: "/.."}, "="},
		{Selection{Path: "a.txt"}, "a.txt=a.txt"},
		{Selection{Path: "/src/../a.txt"}, "a.txt=a.txt"},
		{Selection{Path: "/link"}, "link=link"},
		{Selection{Path: "/link", FollowLinks: true}, "link=src/lib"},
		{Selection{Path: "/link/."}, "=link"},
		{Selection{Path: "/chain/doc.md"}, "doc.md=src/lib/doc.md"},
		{Selection{Path: "/abs/a.md"}, "a.md=docs/a.md"},
		{Selection{Path: "/up/main.go"}, "main.go=src/main.go"},
		{Selection{Path: "/loop"}, "loop=loop"},
		{Selection{Path: "/loop", FollowLinks: true}, "path-not-found"},
		{Selection{Path: "/loop/x"}, "path-not-found"},
		{Selection{Path: "/broken", FollowLinks: true}, "path-not-found"},
		{Selection{Path: "/nowhere"}, "path-not-found"},
		{Selection{Path: "/a.txt/x"}, "path-not-found"},
		{Selection{Path: "*.md", Wildcard: true}, "README.md=README.md b.md=b.md"},
		{Selection{Path: "*.md"}, "path-not-found"},
		{Selection{Path: "/zzz*", Wildcard: true}, ""},
		{Selection{Path: "/nowhere/*", Wildcard: true}, "path-not-found"},
		{Selection{Path: "/src/*/*.md", Wildcard: true}, "doc.md=src/lib/doc.md"},
		{Selection{Path: "/link/*.md", Wildcard: true, FollowLinks: true}, "doc.md=src/lib/doc.md"},
		{Selection{Path: "/l*k", Wildcard: true, FollowLinks: true}, "link=src/lib"},
		{Selection{Path: "/l*k", Wildcard: true}, "link=link"},
		{Selection{Path: "/b*n", Wildcard: true, FollowLinks: true}, "path-not-found"},
		{Selection{Path: "/", Include: []string{"src/main.go"}, Required: []string{"/src/main.go"}}, "="},
		{Selection{Path: "/", Include: []string{"src/no.go"}, Required: []string{"/src/no.go"}}, "path-not-found"},
		{Selection{Path: "/", Include: []string{"["}}, "invalid"},
	} {
		got := matches(t, scan(t, dir, "", nil, Filter{}), c.sel)
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.sel, got, c.want)
		}
	}
}

func matches(t *testing.T, tree *Tree, sel Selection) string {
	t.Helper()
	s, err := tree.Select(t.Context(), sel)
	if f, ok := fault.As(err); ok {
		if !errdefs.IsNotFound(err) {
			t.Error(err)
		}
		return f.Code
	}
	if errdefs.IsInvalidArgument(err) {
		return "invalid"
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range s.Matches {
		list = append(list, m.Name+"="+m.Node.Path())
	}
	return strings.Join(list, " ")
}

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, "package.json", "src/index.js", "secret.env")
	for name, c := range map[string]struct{ path, want string }{
		"near":    {"/pakage.json", `"/pakage.json": not found: there is package.json`},
		"hidden":  {"/secret.env", `"/secret.env": not found: it is there, but the pattern "*.env" of the ignore file leaves it out`},
		"nothing": {"/completely/else", `"/completely/else": not found`},
		"in dir":  {"/src/Index.js", `"/src/Index.js": not found: there is src/index.js`},
	} {
		_, err := scan(t, dir, "", nil, Filter{Exclude: []string{"*.env"}}).Digest(t.Context(), Selection{Path: c.path})
		if err == nil || !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// TestHostile reads a tree that was made to hurt.
func TestHostile(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("n", 255)
	plant(t, dir, "a -> b", "b -> a", "etc -> /etc", "out -> ../../../../../../etc/passwd", "x/", "x/y -> ..", long, "\xff\xfe\n\t", "*", "[", "-")
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		sumOf(t, dir, Selection{Path: "/"})
		sumOf(t, dir, Selection{Path: "/*", Wildcard: true})
		sumOf(t, dir, Selection{Path: "/x/y/x/y/x/fifo/../..", FollowLinks: true})
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("still reading")
	}
	for _, name := range []string{"/etc/passwd", "/out", "/a", "/x/y/../../etc/passwd"} {
		_, err := scan(t, dir, "", nil, Filter{}).Digest(t.Context(), Selection{Path: name, FollowLinks: true})
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s leads out of the tree: %v", name, err)
		}
	}
}

// TestDeep reads directories in directories, as deep as a path can name and deeper.
func TestDeep(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		name := strings.Repeat("d", 200)
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	t.Cleanup(func() {
		root, err := sys.OpenRoot(filepath.Dir(dir))
		if err == nil {
			err = sys.RemoveAllAt(root.Fd(), filepath.Base(dir))
			root.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	_, err = scan(t, dir, "", nil, Filter{}).Digest(t.Context(), Selection{Path: "/"})
	if err == nil || !strings.Contains(err.Error(), "name too long") {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, "a/b/c=x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := scan(t, dir, "", nil, Filter{}).Digest(ctx, Selection{Path: "/"}); err == nil {
		t.Error("no error from an ended context")
	}
}

// TestGolden pins the digest of a tree: when it changes, every build cache that is out there misses once.
func TestGolden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners")
	}
	dir := t.TempDir()
	plant(t, dir, "src/main.go=package main", "src/run.sh=#!/bin/sh", "empty/", "link -> src/main.go")
	for name, mode := range map[string]os.FileMode{".": 0o755, "src": 0o755, "empty": 0o700, "src/main.go": 0o644, "src/run.sh": 0o755} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(filepath.Join(dir, "src/run.sh"), "user.k", []byte("v"), 0); err != nil {
		t.Skip("needs extended attributes:", err)
	}
	const want = "sha256:df938412ad65172d8db66bb18236b29d3d3e0183fe448fbb5c701aca195a2707"
	if got := sumOf(t, dir, Selection{Path: "/"}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
