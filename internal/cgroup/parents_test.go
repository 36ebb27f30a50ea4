package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The groups above a container's go with the last one below them, but not those that were there before.
func TestPruneParents(t *testing.T) {
	h := fakeV2(t, nil)
	// The kernel removes a group with its files; here they are in the way.
	h.makeDir = func(fd int, rel string) error { return unix.Mkdirat(fd, rel, 0o755) }
	root := h.unified.path
	if err := unix.Setxattr(root, madeMark, []byte{'1'}, 0); errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		t.Skip("skip: trusted attributes need root and a file system that has them")
	}
	if err := os.MkdirAll(filepath.Join(root, "theirs"), 0o755); err != nil {
		t.Fatal(err)
	}
	groups := []string{"/theirs/ours/deep/one", "/theirs/ours/two", "/alone/three"}
	for _, name := range groups {
		g, err := h.group(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.make(h.unified); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name string
		left []string
	}{
		{groups[0], []string{"alone", "alone/three", "theirs", "theirs/ours", "theirs/ours/two"}},
		{groups[2], []string{"theirs", "theirs/ours", "theirs/ours/two"}},
		{groups[1], []string{"theirs"}},
	} {
		if err := os.Remove(root + step.name); err != nil {
			t.Fatal(err)
		}
		if err := h.pruneParents(t.Context(), step.name); err != nil {
			t.Fatal(err)
		}
		var left []string
		err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
			if rel, _ := filepath.Rel(root, path); err == nil && e.IsDir() && rel != "." {
				left = append(left, rel)
			}
			return err
		})
		if err != nil || !slices.Equal(left, step.left) {
			t.Errorf("after %s: %v, want %v (%v)", step.name, left, step.left, err)
		}
	}
}

// The same with the kernel's own tree.
func TestPruneParentsV1(t *testing.T) {
	h := hostV1(t)
	top := filepath.Dir(name(t))
	g, _, err := Create(t.Context(), top+"/a/b/c", &specs.LinuxResources{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := PruneParents(t.Context(), top+"/a/b/c"); err != nil {
		t.Fatal(err)
	}
	for _, d := range h.all() {
		if d.has(top[1:]) {
			t.Errorf("%s%s is left", d.path, top)
		}
	}
}
