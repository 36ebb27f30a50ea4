package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/filter"
)

var ctx = context.Background()

// commit makes an image of one layer.
func (f *fixture) commit(t testing.TB, ref string, parent digest.Digest, labels map[string]string, files map[string]string) *Image {
	t.Helper()
	o := CommitOptions{Parent: parent, Ref: ref, CreatedBy: "make " + ref, Created: time.Now()}
	o.Config.Labels = labels
	if files != nil {
		raw := plainLayer(t, files)
		o.Diff = func(w io.Writer) error { _, err := w.Write(raw); return err }
	}
	img, err := f.Commit(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestGet(t *testing.T) {
	f := newFixture(t)
	img := f.commit(t, "debian:12", "", nil, map[string]string{"a": "a"})
	f.commit(t, "host.test:5000/x/app:1", "", nil, map[string]string{"b": "b"})
	for _, ref := range []string{
		"debian:12", "docker.io/debian:12", "docker.io/library/debian:12", img.ID.String(), img.ID.Encoded(),
		img.ID.Encoded()[:12], img.ID.Encoded()[:4], "sha256:" + img.ID.Encoded()[:8],
		"debian@" + img.Manifest.Digest.String(), "debian:whatever@" + img.Manifest.Digest.String(),
	} {
		if got, err := f.Get(ctx, ref); err != nil || got.ID != img.ID {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	for ref, near := range map[string]string{
		"debain:12": "debian:12", "debian": "debian:12", "debian:13": "debian:12", "something-else": "",
		digest.FromString("x").String(): "",
	} {
		_, err := f.Get(ctx, ref)
		known, ok := fault.As(err)
		if !ok || known.Code != "image-not-found" || !errdefs.IsNotFound(err) || !strings.Contains(known.Cause, near) || near == "" && known.Cause != "" {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"UPPER", "a b", "", "x:", "@"} {
		if _, err := f.Get(ctx, ref); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestNamesOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	f := openFixture(t, dir)
	base := f.commit(t, "base:1", "", nil, map[string]string{"a": "a"})
	img := f.commit(t, "app:1", base.ID, nil, map[string]string{"b": "b"})
	loose := f.commit(t, "", "", nil, map[string]string{"c": "c"})
	g := openFixture(t, dir)
	for ref, id := range map[string]digest.Digest{"app:1": img.ID, "base:1": base.ID, loose.ID.String(): loose.ID} {
		if got, err := g.Get(ctx, ref); err != nil || got.ID != id {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := g.Remove(ctx, base.ID.String(), true, false); !errdefs.IsConflict(err) {
		t.Errorf("the parent's child is forgotten: %v", err)
	}
}

// TestOpenMends takes away the layers, as a crash of the machine before they were synced does.
func TestOpenMends(t *testing.T) {
	dir := t.TempDir()
	f := openFixture(t, dir)
	img := f.commit(t, "app:1", "", nil, map[string]string{"a": "a"})
	if _, err := f.layers.Collect(ctx, func(digest.Digest) bool { return false }); err != nil {
		t.Fatal(err)
	}
	g := openFixture(t, dir)
	if !g.layers.Has(img.Layers[0]) {
		t.Error("the layer was not unpacked again")
	}
}

func TestForeignIndex(t *testing.T) {
	dir := t.TempDir()
	f := openFixture(t, dir)
	img := f.commit(t, "app:1", "", nil, map[string]string{"a": "a"})
	index, err := f.content.Index()
	if err != nil {
		t.Fatal(err)
	}
	// Another tool tags it in its own way, and adds something that is no image.
	theirs := index.Manifests[0]
	theirs.Annotations = map[string]string{ocispec.AnnotationRefName: "theirs"}
	strange := ocispec.Descriptor{MediaType: "application/strange", Digest: digest.FromString("strange"), Size: 7}
	index.Manifests = append(index.Manifests, theirs, strange)
	if err := f.content.SetIndex(index); err != nil {
		t.Fatal(err)
	}
	g := openFixture(t, dir)
	if got, err := g.Get(ctx, "theirs"); err != nil || got.ID != img.ID {
		t.Errorf("their name: %v", err)
	}
	if err := g.Tag(ctx, "theirs", "ours:2"); err != nil {
		t.Fatal(err)
	}
	index, err = g.content.Index()
	if err != nil || !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == strange.Digest }) {
		t.Errorf("their entry was dropped: %v", err)
	}
}

func TestListFilters(t *testing.T) {
	f := newFixture(t)
	at := func(ref string, year int, labels map[string]string) *Image {
		raw := plainLayer(t, map[string]string{"for-" + ref: ref})
		o := CommitOptions{Ref: ref, Created: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}
		o.Config.Labels = labels
		o.Diff = func(w io.Writer) error { _, err := w.Write(raw); return err }
		img, err := f.Commit(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	at("a:1", 2001, map[string]string{"x": "1"})
	at("b/a:2", 2002, map[string]string{"x": "2"})
	at("c:3", 2003, nil)
	at("", 2004, nil)
	for _, tc := range []struct {
		filter filter.Args
		want   string
	}{
		{nil, "- c:3 b/a:2 a:1"},
		{filter.Args{"dangling": {"true"}}, "-"},
		{filter.Args{"dangling": {"false"}}, "c:3 b/a:2 a:1"},
		{filter.Args{"label": {"x"}}, "b/a:2 a:1"},
		{filter.Args{"label": {"x=1"}}, "a:1"},
		{filter.Args{"before": {"c:3"}}, "b/a:2 a:1"},
		{filter.Args{"since": {"b/a:2"}}, "- c:3"},
		{filter.Args{"until": {"2002-06-01"}}, "b/a:2 a:1"},
		{filter.Args{"reference": {"*:1"}}, "a:1"},
		{filter.Args{"reference": {"a", "b/*"}}, "b/a:2 a:1"},
	} {
		list, err := f.List(ctx, false, true, tc.filter)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range list {
			names = append(names, strings.Join(append(s.RepoTags, "-")[:1], ""))
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.filter, got, tc.want)
		}
	}
	for _, bad := range []filter.Args{{"nope": {"1"}}, {"dangling": {"x"}}, {"until": {"x"}}, {"reference": {"["}}} {
		if _, err := f.List(ctx, false, false, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := f.List(ctx, false, false, filter.Args{"before": {"nope"}}); !errdefs.IsNotFound(err) {
		t.Errorf("before an unknown image: %v", err)
	}
}

func TestInspectHistoryUsage(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	var config dockerspec.DockerOCIImage
	created := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	config.Created, config.Author = &created, "me"
	config.History = []ocispec.History{
		{Created: &created, CreatedBy: "ADD"},
		{Created: &created, CreatedBy: "ENV", EmptyLayer: true},
		{Created: &created, CreatedBy: "RUN", Comment: "last"},
	}
	ti := makeImage(t, config, plainLayer(t, map[string]string{"a": strings.Repeat("a", 10_000)}), plainLayer(t, map[string]string{"b": "b"}))
	srv.put(t, "app:1", ti)
	img, _ := f.pull(t, srv.host+"/app:1")
	r, err := f.Inspect(ctx, srv.host+"/app:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.ID != img.ID.String() || r.Author != "me" || r.Comment != "last" || r.Created != "2020-02-03T04:05:06Z" || len(r.RepoTags) != 1 ||
		len(r.RepoDigests) != 1 || r.Os != "linux" || len(r.RootFS.Layers) != 2 || r.Size == 0 || r.Metadata.LastTagTime.IsZero() {
		t.Errorf("inspect: %+v", r)
	}
	h, err := f.History(ctx, img.ID.String(), nil)
	if err != nil || len(h) != 3 {
		t.Fatal(h, err)
	}
	if h[0].CreatedBy != "RUN" || h[0].ID != img.ID.String() || len(h[0].Tags) != 1 || h[1].Size != 0 || h[2].Size < 10_000 || h[2].ID != "<missing>" {
		t.Errorf("history: %+v", h)
	}
	total, reclaimable, err := f.Usage(ctx)
	if err != nil || total == 0 || reclaimable != total {
		t.Errorf("usage: %d %d %v", total, reclaimable, err)
	}
	f.used[img.ID] = []string{"c"}
	if _, reclaimable, err = f.Usage(ctx); err != nil || reclaimable != 0 {
		t.Errorf("usage of a used image: %d %v", reclaimable, err)
	}
}

func TestCommitAndImport(t *testing.T) {
	f := newFixture(t)
	base := f.commit(t, "base:1", "", nil, map[string]string{"a": "a"})
	img := f.commit(t, "app:1", base.ID, map[string]string{"l": "v"}, map[string]string{"b": "b"})
	same := f.commit(t, "", img.ID, nil, nil)
	if len(img.Layers) != 2 || img.Layers[0] != base.Layers[0] || len(img.Config.History) != 2 || len(same.Layers) != 2 || !same.Config.History[2].EmptyLayer {
		t.Errorf("%+v", img)
	}
	failed := errors.New("failed")
	before := blobCount(t, f)
	if _, err := f.Commit(ctx, CommitOptions{Diff: func(io.Writer) error { return failed }}); !errors.Is(err, failed) {
		t.Errorf("a diff that fails: %v", err)
	}
	if n := blobCount(t, f); n != before {
		t.Errorf("a failed commit left %d blobs", n-before)
	}
	if n, err := f.content.Partial(); n != 0 || err != nil {
		t.Errorf("a failed commit left %d bytes", n)
	}
	raw := plainLayer(t, map[string]string{"root": "fs"})
	for name, stream := range map[string][]byte{"plain": raw, "gzip": gzipped(t, raw), "zstd": zstded(t, raw)} {
		img, err := f.Import(ctx, bytes.NewReader(stream), ImportOptions{Ref: "imported:" + name, Message: "m", Changes: []string{`CMD ["x"]`}})
		if err != nil {
			t.Fatal(err)
		}
		if img.Layers[0] != digest.FromBytes(raw) || !slices.Equal(img.Config.Config.Cmd, []string{"x"}) || img.Config.OS != "linux" {
			t.Errorf("%s: %+v", name, img)
		}
	}
	for name, stream := range map[string]string{"text": strings.Repeat("no tar at all. ", 100), "damaged xz": "\xfd7zXZ\x00 and so on"} {
		if _, err := f.Import(ctx, strings.NewReader(stream), ImportOptions{}); err == nil {
			t.Errorf("%s was imported", name)
		}
	}
}

func TestEvents(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	srv.put(t, "app:1", standardImage(t))
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	_, ch := f.bus.Subscribe(sub, time.Time{})
	ref := srv.host + "/app:1"
	f.pull(t, ref)
	if err := f.Tag(ctx, ref, "mine:1"); err != nil {
		t.Fatal(err)
	}
	f.save(t, "mine:1")
	for _, name := range []string{"mine:1", ref} {
		if _, err := f.Remove(ctx, name, false, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct {
		action events.Action
		name   string
	}{
		{events.ActionPull, srv.host + "/app"},
		{events.ActionTag, "mine:1"},
		{events.ActionSave, ""},
		{events.ActionUnTag, "mine:1"},
		{events.ActionUnTag, ""},
		{events.ActionUnTag, ""},
		{events.ActionDelete, ""},
	} {
		m := <-ch
		if m.Action != want.action || want.name != "" && m.Actor.Attributes["name"] != want.name {
			t.Errorf("got %s %v, want %v", m.Action, m.Actor, want)
		}
	}
}

func TestPushAndPullBack(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	img := f.commit(t, srv.host+"/one:1", "", nil, map[string]string{"a": noise(t, 100_000)})
	push := func(ref string, o PullOptions) []string {
		t.Helper()
		var log reportLog
		o.Report = log.add
		if err := f.Push(ctx, ref, o); err != nil {
			t.Fatal(err)
		}
		return log.statuses()
	}
	said := push(srv.host+"/one:1", PullOptions{})
	for _, want := range []string{"The push refers to repository [" + srv.host + "/one]", "Preparing", "Pushing", "Pushed"} {
		if !slices.Contains(said, want) {
			t.Errorf("%q was not said: %q", want, said)
		}
	}
	if said = push(srv.host+"/one:1", PullOptions{}); !slices.Contains(said, "Layer already exists") {
		t.Errorf("again: %q", said)
	}
	for _, tag := range []string{"/two:1", "/two:2"} {
		if err := f.Tag(ctx, srv.host+"/one:1", srv.host+tag); err != nil {
			t.Fatal(err)
		}
	}
	said = push(srv.host+"/two", PullOptions{AllTags: true})
	if !slices.Contains(said, "Mounted from one") && !slices.Contains(said, "Layer already exists") {
		t.Errorf("another repository: %q", said)
	}
	g := newFixture(t)
	if got, err := g.Pull(ctx, srv.host+"/two", PullOptions{AllTags: true}); err != nil || got.ID != img.ID {
		t.Fatal(got, err)
	}
	if list, err := g.List(ctx, false, false, nil); err != nil || len(list) != 1 || len(list[0].RepoTags) != 2 {
		t.Errorf("%v %v", list, err)
	}
	damage(t, f, mustRecord(t, f, img).manifest.Layers[0].Digest)
	other := newServer(t)
	if err := f.Tag(ctx, srv.host+"/one:1", other.host+"/one:1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Push(ctx, other.host+"/one:1", PullOptions{}); !errdefs.IsDataLoss(err) {
		t.Errorf("a damaged blob was pushed: %v", err)
	}
	if err := f.Push(ctx, srv.host+"/nope:1", PullOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("an unknown image: %v", err)
	}
}

func mustRecord(t *testing.T, f *fixture, img *Image) *record {
	t.Helper()
	r, err := f.record(img.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSaveWholeRepository(t *testing.T) {
	f := newFixture(t)
	one := f.commit(t, "app:1", "", nil, map[string]string{"a": "a"})
	two := f.commit(t, "app:2", one.ID, nil, map[string]string{"b": "b"})
	f.commit(t, "other:1", "", nil, map[string]string{"c": "c"})
	g := newFixture(t)
	list, err := g.Load(ctx, bytes.NewReader(f.save(t, "app", "app:1")), nil, nil)
	if err != nil || len(list) != 2 || list[0].ID != one.ID || list[1].ID != two.ID {
		t.Errorf("%v %v", list, err)
	}
	if _, err := g.Get(ctx, "other:1"); !errdefs.IsNotFound(err) {
		t.Errorf("another repository came along: %v", err)
	}
	g = newFixture(t)
	list, err = g.Load(ctx, bytes.NewReader(f.save(t, two.ID.String())), nil, nil)
	if err != nil || len(list) != 1 || list[0].ID != two.ID || len(list[0].Names) != 0 {
		t.Errorf("by id: %v %v", list, err)
	}
	if err := f.Save(ctx, []string{"nope"}, nil, io.Discard); !errdefs.IsNotFound(err) {
		t.Errorf("unknown: %v", err)
	}
}

func TestResolve(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	ti := standardImage(t)
	srv.put(t, "app:1", ti)
	got, err := f.Resolve(ctx, srv.host+"/app:1", nil)
	if err != nil || got.Descriptor.Digest != ti.manifest.Digest || len(got.Platforms) != 1 || got.Platforms[0].OS != "linux" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestIndexIsForOtherTools(t *testing.T) {
	f := newFixture(t)
	f.commit(t, "app:1", "", nil, map[string]string{"a": "a"})
	raw, err := os.ReadFile(filepath.Join(f.content.Dir(), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) != 1 ||
		index.Manifests[0].Annotations[ocispec.AnnotationRefName] != "docker.io/library/app:1" {
		t.Errorf("%s", raw)
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	id := func(begin string) digest.Digest {
		return digest.Digest("sha256:" + begin + strings.Repeat("0", 64-len(begin)))
	}
	snap := newSnapshot([]entry{{id: id("ab1")}, {id: id("ab2")}, {id: id("cd")}}, nil)
	if _, err := snap.find("ab"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "ambiguous") {
		t.Errorf("two images: %v", err)
	}
	for ref, want := range map[string]digest.Digest{"ab2": id("ab2"), "c": id("cd"), "sha256:cd0": id("cd")} {
		for range 2 { // The second time it is remembered.
			if e, err := snap.find(ref); err != nil || e.id != want {
				t.Errorf("%s: %v %v", ref, e.id, err)
			}
		}
	}
}
