package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/filter"
)

var ctx = context.Background()

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, &event.Bus{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ensure(t *testing.T, s *Store, name string, labels map[string]string) string {
	t.Helper()
	v, _, err := s.Ensure(ctx, name, "", labels, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v.Name
}

func TestEnsureMakesOnceAndSurvives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	labels := map[string]string{"a": "b"}
	v, fresh, err := s.Ensure(ctx, "data", "local", labels, nil)
	if err != nil || !fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	labels["a"] = "changed by the caller"
	if v.Driver != "local" || v.Scope != "local" || v.Mountpoint != filepath.Join(dir, "data", "_data") {
		t.Errorf("%+v", v)
	}
	if _, err := time.Parse(time.RFC3339, v.CreatedAt); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(v.Mountpoint); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v %v", info, err)
	}
	if _, fresh, err = s.Ensure(ctx, "data", "", nil, nil); err != nil || !fresh {
		t.Errorf("an empty volume that nobody uses: fresh %v, %v", fresh, err)
	}
	if err := s.Use("data", "c1"); err != nil {
		t.Fatal(err)
	}
	if _, fresh, err = s.Ensure(ctx, "data", "", nil, nil); err != nil || fresh {
		t.Errorf("a volume in use: fresh %v, %v", fresh, err)
	}
	s.Release("c1")
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, fresh, err = s.Ensure(ctx, "data", "", nil, nil); err != nil || fresh {
		t.Errorf("a volume with a file: fresh %v, %v", fresh, err)
	}
	again, err := open(t, dir).Inspect(ctx, "data")
	if err != nil {
		t.Fatal(err)
	}
	v.Labels = map[string]string{"a": "b"}
	if d := cmp.Diff(v, again); d != "" {
		t.Errorf("after a restart (-before +after):\n%s", d)
	}
}

func TestAnonymous(t *testing.T) {
	s := open(t, t.TempDir())
	a, b := ensure(t, s, "", nil), ensure(t, s, "", map[string]string{"k": "v"})
	if a == b || len(a) != 64 || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("names %q, %q", a, b)
	}
	v, err := s.Inspect(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"k": "v", anonymousLabel: ""}, v.Labels); d != "" {
		t.Error(d)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, tt := range []struct {
		name, driver string
		options      map[string]string
		class        error
		says         string
	}{
		{"../evil", "", nil, errdefs.ErrInvalidArgument, `"../evil" includes invalid characters for a local volume name`},
		{"a/b", "", nil, errdefs.ErrInvalidArgument, "use absolute path"},
		{".hidden", "", nil, errdefs.ErrInvalidArgument, "invalid characters"},
		{"new\nline", "", nil, errdefs.ErrInvalidArgument, "invalid characters"},
		{"nul\x00", "", nil, errdefs.ErrInvalidArgument, "invalid characters"},
		{"-dash", "", nil, errdefs.ErrInvalidArgument, "invalid characters"},
		{"x", "", nil, errdefs.ErrInvalidArgument, "too short"},
		{strings.Repeat("x", 256), "", nil, errdefs.ErrInvalidArgument, "too long"},
		{"ok", "nfs", nil, errdefs.ErrNotFound, `error looking up volume plugin nfs: plugin "nfs" not found`},
		{"ok", "local", map[string]string{"type": "tmpfs"}, errdefs.ErrInvalidArgument, `missing required option: "device"`},
		{"ok", "local", map[string]string{"o": "ro"}, errdefs.ErrInvalidArgument, `missing required option: "type"`},
		{"ok", "local", map[string]string{"type": "none", "device": "/tmp"}, errdefs.ErrInvalidArgument, "needs o=bind"},
		{"ok", "local", map[string]string{"type": "none", "device": "tmp", "o": "bind"}, errdefs.ErrInvalidArgument, "absolute path"},
		{"ok", "local", map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "remount"}, errdefs.ErrInvalidArgument, `invalid mount option "remount"`},
		{"ok", "local", map[string]string{"type": "tmpfs", "device": "tmpfs", "size": "1m"}, errdefs.ErrInvalidArgument, "o=size="},
		{"ok", "local", map[string]string{"size": "much"}, errdefs.ErrInvalidArgument, `invalid size: "much"`},
		{"ok", "local", map[string]string{"size": "-1"}, errdefs.ErrInvalidArgument, "invalid size"},
		{"ok", "local", map[string]string{"colour": "red"}, errdefs.ErrInvalidArgument, `invalid option: "colour"`},
	} {
		_, _, err := s.Ensure(ctx, tt.name, tt.driver, nil, tt.options)
		if !errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v", tt.name, err)
		}
	}
	ensure(t, s, strings.Repeat("x", 255), nil)
	if _, err := s.Inspect(ctx, "nope"); !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "get nope: no such volume") {
		t.Error(err)
	}
	if err := s.Use("nope", "c"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left: %v, %v", list, err)
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ensure(t, s, "data", nil)
	for _, c := range []string{"c2", "c1"} {
		if err := s.Use("data", c); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Remove(ctx, "data", true)
	if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "remove data: volume is in use - [c1, c2]") {
		t.Errorf("in use: %v", err)
	}
	if d := cmp.Diff([]string{"c1", "c2"}, s.Users("data")); d != "" {
		t.Error(d)
	}
	s.Release("c1")
	s.Release("c2")
	if err := s.Remove(ctx, "data", false); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "data", false); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if err := s.Remove(ctx, "data", true); err != nil {
		t.Errorf("again, by force: %v", err)
	}
	s.Close()
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// What a crash leaves is a directory that is no volume.
func TestOpenRepairs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ensure(t, s, "data", map[string]string{"a": "b"})
	ensure(t, s, "torn", nil)
	for _, d := range []string{".new-1/_data", ".gone-2/_data/deep", "data/.copy-3/x", "no-volume"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "torn", metaFile), 0); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	s.Close()
	list, _, err := s.List(ctx, nil)
	if err != nil || len(list) != 2 || list[0].Name != "data" || list[1].Name != "torn" {
		t.Fatalf("%v, %v", list, err)
	}
	for _, gone := range []string{".new-1", ".gone-2", "data/.copy-3"} {
		if _, err := os.Lstat(filepath.Join(dir, gone)); !os.IsNotExist(err) {
			t.Errorf("%s is still there", gone)
		}
	}
}

func TestListFilters(t *testing.T) {
	s := open(t, t.TempDir())
	ensure(t, s, "web-data", map[string]string{"app": "web"})
	ensure(t, s, "db-data", map[string]string{"app": "db"})
	if err := s.Use("db-data", "c1"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		f    filter.Args
		want string
	}{
		{nil, "db-data web-data"},
		{filter.Args{"dangling": {"true"}}, "web-data"},
		{filter.Args{"dangling": {"false"}}, "db-data"},
		{filter.Args{"label": {"app"}}, "db-data web-data"},
		{filter.Args{"label": {"app=db"}}, "db-data"},
		{filter.Args{"name": {"web"}}, "web-data"},
		{filter.Args{"driver": {"nfs"}}, ""},
		{filter.Args{"driver": {"local"}}, "db-data web-data"},
	} {
		list, _, err := s.List(ctx, tt.f)
		if err != nil {
			t.Errorf("%v: %v", tt.f, err)
		}
		var names []string
		for _, v := range list {
			names = append(names, v.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.f, got, tt.want)
		}
	}
	for _, f := range []filter.Args{{"colour": {"red"}}, {"dangling": {"maybe"}}} {
		if _, _, err := s.List(ctx, f); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%v: %v", f, err)
		}
	}
}

func TestPrune(t *testing.T) {
	s := open(t, t.TempDir())
	ensure(t, s, "named", map[string]string{"keep": ""})
	ensure(t, s, "other", nil)
	ensure(t, s, "busy", nil)
	anon, used := ensure(t, s, "", nil), ensure(t, s, "", nil)
	for _, v := range []string{"busy", used} {
		if err := s.Use(v, "c1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.data(anon), "file"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := s.Prune(ctx, nil)
	if err != nil || !cmp.Equal(r.VolumesDeleted, []string{anon}) || r.SpaceReclaimed < 1<<20 {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = s.Prune(ctx, filter.Args{"all": {"1"}, "label!": {"keep"}})
	if err != nil || !cmp.Equal(r.VolumesDeleted, []string{"other"}) {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = s.Prune(ctx, filter.Args{"all": {"true"}, "label": {"keep"}})
	if err != nil || !cmp.Equal(r.VolumesDeleted, []string{"named"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := s.Prune(ctx, filter.Args{"until": {"1h"}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestSize(t *testing.T) {
	s := open(t, t.TempDir())
	ensure(t, s, "data", nil)
	empty, err := s.Size("data")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.data("data"), "file")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(filepath.Join(s.data("data"), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sparse.Truncate(1<<30), sparse.Close(), os.Link(file, file+"2"), os.Symlink("/usr", file+"3")); err != nil {
		t.Fatal(err)
	}
	n, err := s.Size("data")
	if err != nil || n-empty < 1<<20 || n-empty > 1<<20+64<<10 {
		t.Errorf("size %d over %d, %v", n, empty, err)
	}
	if _, err := s.Size("nope"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}

func TestEvents(t *testing.T) {
	bus := &event.Bus{}
	s, err := Open(t.TempDir(), bus)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ensure(t, s, "data", nil)
	if err := s.Remove(ctx, "data", false); err != nil {
		t.Fatal(err)
	}
	past, _ := bus.Subscribe(t.Context(), time.Unix(1, 0))
	var got []string
	for _, m := range past {
		got = append(got, string(m.Type)+" "+string(m.Action)+" "+m.Actor.ID+" "+m.Actor.Attributes["driver"])
	}
	if d := cmp.Diff([]string{"volume create data local", "volume destroy data local"}, got); d != "" {
		t.Error(d)
	}
}
