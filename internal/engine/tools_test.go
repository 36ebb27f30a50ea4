package engine

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/moby/api/types/container"
)

func TestCopyCommitExport(t *testing.T) {
	w := newWorld(t)
	id := w.create("cc", docker.Config{Cmd: []string{"sleep", "100"}}, docker.HostConfig{Binds: []string{"vol:/vol"}})
	put := func(dir, content string) {
		t.Helper()
		w.ok(w.engine.PutArchive(t.Context(), id, dir, tarOf(t, "f", content), PutArchiveOptions{}))
	}
	get := func(file string) string {
		t.Helper()
		var b strings.Builder
		w.ok(w.engine.GetArchive(t.Context(), id, file, func(*docker.PathStat) (io.Writer, error) { return &b, nil }))
		return b.String()
	}
	put("/root", "one")
	put("/vol", "two")
	w.ok(w.engine.Start(t.Context(), id))
	for file, want := range map[string]string{"/root/f": "one", "/vol/f": "two"} {
		if out, _ := w.exec(id, docker.ExecCreateRequest{Cmd: []string{"cat", file}}); out != want {
			t.Errorf("%s holds %q", file, out)
		}
		if !strings.Contains(get(file), want) {
			t.Errorf("copy of %s from the running container", file)
		}
	}
	put("/vol", "three")
	w.ok(w.engine.Kill(t.Context(), id, ""))
	if !strings.Contains(get("/vol/f"), "three") {
		t.Error("copy from the stopped container")
	}
	st, err := w.engine.StatPath(t.Context(), id, "/bin/sh")
	w.ok(err)
	if st.Mode&os.ModeSymlink == 0 || st.LinkTarget != "/bin/busybox" || st.Name != "sh" {
		t.Errorf("%+v", st)
	}
	if _, err := w.engine.StatPath(t.Context(), id, "/nosuch"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	changes, err := w.engine.Changes(t.Context(), id)
	w.ok(err)
	if !slices.Contains(changes, docker.FilesystemChange{Kind: docker.ChangeAdd, Path: "/root/f"}) {
		t.Errorf("changes %v", changes)
	}
	image, err := w.engine.Commit(t.Context(), id, CommitOptions{Ref: "committed:1", Pause: true, Changes: []string{`CMD ["cat", "/root/f"]`}})
	w.ok(err)
	if image == "" {
		t.Error("no image id")
	}
	r, err := w.engine.Create(t.Context(), "from", nil, docker.CreateRequest{Config: &docker.Config{Image: "committed:1"}})
	w.ok(err)
	w.ok(w.engine.Start(t.Context(), r.ID))
	w.wait(r.ID, docker.WaitConditionNotRunning)
	if log := w.logs(r.ID); log != "one" {
		t.Errorf("log %q", log)
	}
	var b strings.Builder
	w.ok(w.engine.Export(t.Context(), id, func() (io.Writer, error) { return &b, nil }))
	if !strings.Contains(b.String(), "root/f") || strings.Contains(b.String(), "three") {
		t.Error("the export lacks a file, or has what is in a volume")
	}
}

func TestListFilters(t *testing.T) {
	w := newWorld(t)
	web := w.create("web", docker.Config{Labels: map[string]string{"tier": "front"}}, docker.HostConfig{})
	db := w.run("db", docker.HostConfig{Binds: []string{"dbdata:/var"}}, "sleep", "100")
	old := w.run("old", docker.HostConfig{}, "sh", "-c", "exit 3")
	w.wait(old, docker.WaitConditionNotRunning)
	for _, tt := range []struct {
		options ListOptions
		want    []string
	}{
		{ListOptions{}, []string{db}},
		{ListOptions{All: true}, []string{old, db, web}},
		{ListOptions{Limit: 2}, []string{old, db}},
		{ListOptions{Filters: map[string][]string{"status": {"exited", "created"}}}, []string{old, web}},
		{ListOptions{Filters: map[string][]string{"exited": {"3"}}}, []string{old}},
		{ListOptions{All: true, Filters: map[string][]string{"label": {"tier=front"}}}, []string{web}},
		{ListOptions{All: true, Filters: map[string][]string{"name": {"^/?w"}}}, []string{web}},
		{ListOptions{All: true, Filters: map[string][]string{"id": {db[:10]}}}, []string{db}},
		{ListOptions{All: true, Filters: map[string][]string{"volume": {"dbdata"}}}, []string{db}},
		{ListOptions{All: true, Filters: map[string][]string{"ancestor": {"test:1"}}}, []string{old, db, web}},
		{ListOptions{All: true, Filters: map[string][]string{"ancestor": {"nosuch"}}}, []string{}},
		{ListOptions{All: true, Filters: map[string][]string{"since": {"db"}}}, []string{old}},
		{ListOptions{All: true, Filters: map[string][]string{"before": {"db"}}}, []string{web}},
	} {
		list, err := w.engine.List(t.Context(), tt.options)
		w.ok(err)
		got := []string{}
		for _, s := range list {
			got = append(got, s.ID)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%+v: %s", tt.options, d)
		}
	}
	for _, bad := range []map[string][]string{{"nosuch": {"x"}}, {"status": {"asleep"}}, {"exited": {"x"}}} {
		if _, err := w.engine.List(t.Context(), ListOptions{Filters: bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	report, err := w.engine.PruneContainers(t.Context(), nil)
	w.ok(err)
	slices.Sort(report.ContainersDeleted)
	want := []string{web, old}
	slices.Sort(want)
	if d := cmp.Diff(want, report.ContainersDeleted); d != "" {
		t.Error(d)
	}
}

func TestStatsAndTop(t *testing.T) {
	w := newWorld(t)
	id := w.run("ss", docker.HostConfig{}, "sleep", "100")
	var samples []*docker.StatsResponse
	take := func(s *docker.StatsResponse) error { samples = append(samples, s); return nil }
	w.ok(w.engine.Stats(t.Context(), id, false, true, take))
	s := samples[0]
	if len(samples) != 1 || s.Name != "/ss" || s.CPUStats.SystemUsage == 0 || s.MemoryStats.Limit == 0 || s.PidsStats.Current != 1 {
		t.Errorf("%+v", s)
	}
	top, err := w.engine.Top(t.Context(), id, "-o pid,comm")
	w.ok(err)
	if len(top.Processes) != 1 || top.Processes[0][1] != "sleep" {
		t.Errorf("%+v", top)
	}
	w.ok(w.engine.Kill(t.Context(), id, ""))
	w.ok(w.engine.Stats(t.Context(), id, false, false, take))
	if got := samples[1]; got.ID != id || got.CPUStats.CPUUsage.TotalUsage != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := w.engine.Top(t.Context(), id, ""); !isConflict(err) {
		t.Error(err)
	}
}

func TestInfoAndUsage(t *testing.T) {
	w := newWorld(t)
	w.run("up", docker.HostConfig{}, "sleep", "100")
	w.create("down", docker.Config{}, docker.HostConfig{})
	i, err := w.engine.Info(t.Context())
	w.ok(err)
	if i.Containers != 2 || i.ContainersRunning != 1 || i.ContainersStopped != 1 || i.Images != 1 || i.NCPU == 0 || i.ID == "" ||
		!slices.Contains(i.Warnings, "there is no network") {
		t.Errorf("%+v", i)
	}
	u, err := w.engine.DiskUsage(t.Context())
	w.ok(err)
	if len(u.Containers) != 2 || len(u.Images) != 1 || u.LayersSize == 0 {
		t.Errorf("%+v", u)
	}
	used := w.engine.ImagesInUse()
	if len(used) != 1 {
		t.Errorf("images in use %v", used)
	}
	for _, ids := range used {
		if len(ids) != 2 {
			t.Errorf("users %v", ids)
		}
	}
}
