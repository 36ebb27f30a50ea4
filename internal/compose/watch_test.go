package compose

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

func TestRules(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte("node_modules\n*.log\n!keep.log\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	svc := &types.ServiceConfig{WorkloadSpec: types.WorkloadSpec{Build: &types.BuildConfig{Context: dir}}}
	compile := func(trigger types.Trigger) *rule {
		r := &rule{service: "a", Trigger: trigger}
		if err := r.compile(svc); err != nil {
			t.Fatal(err)
		}
		return r
	}
	all := compile(types.Trigger{Path: dir, Action: types.WatchActionSync, Target: "/app", Ignore: []string{"*.tmp"}})
	only := compile(types.Trigger{Path: dir, Action: types.WatchActionSync, Target: "/app", Include: []string{"**/*.go"}})
	one := compile(types.Trigger{Path: filepath.Join(dir, "one.conf"), Action: types.WatchActionSync, Target: "/etc/two.conf"})
	for _, test := range []struct {
		r    *rule
		path string
		want bool
	}{
		{all, "main.go", true},
		{all, "a/b/c", true},
		{all, "x.tmp", false},
		{all, "node_modules/x/y", false},
		{all, "some.log", false},
		{all, "keep.log", true},
		{all, ".git/HEAD", false},
		{all, "a/.main.go.swp", false},
		{all, "main.go~", false},
		{all, "../outside", false},
		{only, "a/main.go", true},
		{only, "a/main.c", false},
		{one, "one.conf", true},
		{one, "other.conf", false},
	} {
		if got := test.r.wants(filepath.Join(dir, test.path)); got != test.want {
			t.Errorf("%s of %s: %t", test.path, test.r.Path, got)
		}
	}
	if got := all.inContainer(filepath.Join(dir, "a/b")); got != "/app/a/b" {
		t.Error(got)
	}
	if got := one.inContainer(filepath.Join(dir, "one.conf")); got != "/etc/two.conf" {
		t.Error(got)
	}
	if !only.mayWant(filepath.Join(dir, "a")) || !one.mayWant(dir) || all.mayWant(filepath.Join(dir, "node_modules")) {
		t.Error("directories are watched that need not be, or are not that need be")
	}
	if (&rule{Trigger: types.Trigger{Path: dir, Action: "dance"}}).compile(svc) == nil {
		t.Error("an action that there is not is taken")
	}
}

// TestNotices tells of what is written, made in new directories, moved and removed, and not of what is skipped.
func TestNotices(t *testing.T) {
	dir := t.TempDir()
	n, err := newNotices([]string{dir}, func(p string) bool { return strings.HasSuffix(p, ".skip") })
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A change may come in more than one group.
	await := func(want ...string) {
		t.Helper()
		for len(want) > 0 {
			paths, all, err := n.next()
			if err != nil || all {
				t.Fatal(all, err)
			}
			for _, p := range paths {
				rel, err := filepath.Rel(dir, p)
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(rel, ".skip") {
					t.Errorf("%s is told", rel)
				}
				want = slices.DeleteFunc(want, func(w string) bool { return w == rel })
			}
		}
	}
	write("one.skip")
	write("one")
	await("one")
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("a/b/two")
	await("a/b/two")
	if err := os.Rename(filepath.Join(dir, "a/b/two"), filepath.Join(dir, "three")); err != nil {
		t.Fatal(err)
	}
	await("a/b/two", "three")
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	await("a")
}
