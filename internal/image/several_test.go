package image

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/filter"
)

// here is this host's platform; away is another one.
func hereAndAway() (here, away ocispec.Platform) {
	if hostArch() == "amd64" {
		return amd64, arm64
	}
	return ocispec.Platform{OS: "linux", Architecture: hostArch()}, amd64
}

// both builds an image for this host and another platform, which have one layer in common.
func (f *fixture) both(t testing.TB, text string, names ...string) *Built {
	t.Helper()
	here, away := hereAndAway()
	hold := f.layers.Hold()
	defer hold.Release()
	below := f.layer(t, hold, map[string]string{"common": strings.Repeat("common ", 10_000)})
	o := BuildOptions{Names: names, Index: true}
	for _, p := range []ocispec.Platform{away, here} {
		one := BuildImage{Platform: p, Layers: []digest.Digest{below, f.layer(t, hold, map[string]string{"own": text + p.Architecture}, below)}}
		one.Attestations = []Attestation{{PredicateType: "https://example.test/" + p.Architecture, Predicate: []byte(`{"a":1}`)}}
		o.Images = append(o.Images, one)
	}
	built, err := f.Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// has fails the test unless a reference stands for exactly these platforms' images.
func (f *fixture) has(t testing.TB, ref string, want ...ocispec.Platform) {
	t.Helper()
	all, err := f.All(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(want) {
		t.Errorf("%s stands for %d images, not %d", ref, len(all), len(want))
	}
	for i := range want {
		img, err := f.For(ctx, ref, &want[i])
		if err != nil || img.Config.Architecture != want[i].Architecture {
			t.Fatalf("%s for %s: %v %v", ref, want[i].Architecture, img, err)
		}
		if got, err := f.Get(ctx, img.ID.String()); err != nil || got.ID != img.ID {
			t.Errorf("%s by its id: %v", want[i].Architecture, err)
		}
		for _, l := range img.Layers {
			if !f.layers.Has(l) {
				t.Errorf("%s: a layer is not unpacked", want[i].Architecture)
			}
		}
	}
}

func TestBuildForSeveral(t *testing.T) {
	dir := t.TempDir()
	f := openFixture(t, dir)
	here, away := hereAndAway()
	built := f.both(t, "one ", "app:1")
	f.has(t, "app:1", here, away)
	if img, err := f.Get(ctx, "app:1"); err != nil || img.ID != built.Configs[1] || img.Manifest.Digest != built.Manifests[1].Digest {
		t.Errorf("the name is not this host's image: %v %+v", err, img)
	}
	list, err := f.List(ctx, false, true, nil)
	if err != nil || len(list) != 1 || list[0].ID != built.Configs[1].String() || list[0].SharedSize != 0 {
		t.Errorf("%v %+v", err, list)
	}
	if r, err := f.Inspect(ctx, "app:1", nil); err != nil || r.Descriptor.Digest != built.Top.Digest || r.Size != list[0].Size {
		t.Errorf("%v %+v", err, r)
	}
	r, err := f.Inspect(ctx, "app:1", &away)
	if err != nil || r.Architecture != away.Architecture || r.Descriptor.Digest != built.Manifests[0].Digest || r.Size >= list[0].Size {
		t.Errorf("%v %+v", err, r)
	}
	for _, ref := range []string{"app@" + built.Top.Digest.String(), built.Top.Digest.String()} {
		if img, err := f.Get(ctx, ref); err != nil || img.ID != built.Configs[1] {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"app@" + built.Manifests[0].Digest.String(), built.Configs[0].Encoded()[:12]} {
		if img, err := f.Get(ctx, ref); err != nil || img.ID != built.Configs[0] {
			t.Errorf("%s: %v", ref, err)
		}
	}
	_, err = f.For(ctx, "app:1", &ocispec.Platform{OS: "linux", Architecture: "s390x"})
	known, ok := fault.As(err)
	if !ok || known.Code != "platform-not-available" || !strings.Contains(known.Cause, away.Architecture) || !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	// All of it outlives a collection and the process.
	if _, err := f.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	g := openFixture(t, dir)
	g.has(t, "app:1", here, away)
	checkManifests(t, g, built)
}

// TestBuildAgain has a build's implicit attestations, which tell of another time only, leave the name as it is.
func TestBuildAgain(t *testing.T) {
	f := newFixture(t)
	o := f.twoLayers(t)
	o.KeepStatements = true
	build := func(kind, predicate string) digest.Digest {
		t.Helper()
		o.Images[0].Attestations = []Attestation{{PredicateType: kind, Predicate: json.RawMessage(predicate)}}
		built, err := f.Build(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		return built.Top.Digest
	}
	first := build("a", `{"at":1}`)
	if again := build("a", `{"at":2}`); again != first {
		t.Error("a build that changed nothing made another index")
	}
	n := blobCount(t, f)
	o.IndexAnnotations = map[string]string{"a": "b"}
	if again := build("a", `{"at":2}`); again == first {
		t.Error("an annotation is missing")
	}
	if build("b", `{"at":1}`) == build("a", `{"at":1}`) {
		t.Error("another kind of attestation is missing")
	}
	o.KeepStatements = false
	if build("a", `{"at":1}`) == build("a", `{"at":3}`) {
		t.Error("an attestation that was asked for is missing")
	}
	if _, err := f.Collect(ctx); err != nil || blobCount(t, f) != n {
		t.Errorf("%v: %d blobs, not %d", err, blobCount(t, f), n)
	}
}

// checkManifests sees that all that was built is described.
func checkManifests(t *testing.T, f *fixture, built *Built) {
	t.Helper()
	list, err := f.Manifests(ctx, "app:1")
	if err != nil || len(list) != 4 {
		t.Fatal(err, len(list))
	}
	for i, m := range list {
		if !m.Available || m.Size.Content == 0 || m.Size.Total < m.Size.Content {
			t.Errorf("%+v", m)
		}
		if i < 2 && (m.Kind != image.ManifestKindImage || m.ImageData.Platform.Architecture == "" || m.ImageData.Size.Unpacked == 0) {
			t.Errorf("%+v", m)
		}
		if i >= 2 && (m.Kind != image.ManifestKindAttestation || m.AttestationData.For != built.Manifests[i-2].Digest) {
			t.Errorf("%+v", m)
		}
	}
	_, away := hereAndAway()
	at, err := f.Attestations(ctx, "app:1", &away, nil, true)
	if err != nil || len(at) != 1 || at[0].PredicateType != "https://example.test/"+away.Architecture || !bytes.Contains(*at[0].Statement, []byte(`"a":1`)) {
		t.Errorf("%v %+v", err, at)
	}
	if at, err = f.Attestations(ctx, "app:1", nil, []string{"other"}, false); err != nil || len(at) != 0 {
		t.Errorf("%v %+v", err, at)
	}
}

// TestOlderStoreReads takes from index.json what an older version does not know, as that does when it writes the file.
func TestOlderStoreReads(t *testing.T) {
	dir := t.TempDir()
	f := openFixture(t, dir)
	here, away := hereAndAway()
	built := f.both(t, "one ", "app:1")
	index, err := f.content.Index()
	if err != nil || len(index.Manifests) != 1 || index.Manifests[0].Digest != built.Manifests[1].Digest {
		t.Fatalf("%v %+v", err, index)
	}
	for _, others := range []string{"", "{", `[{"digest":"x"}]`, `[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + digest.FromString("").String() + `","size":1}]`} {
		a := index.Manifests[0].Annotations
		a[annotationOthers], a[annotationIndex] = others, `{"digest":"sha256:12"}`
		if err := f.content.SetIndex(index); err != nil {
			t.Fatal(err)
		}
		f = openFixture(t, dir)
		f.has(t, "app:1", here)
		if _, err := f.For(ctx, "app:1", &away); !errdefs.IsNotFound(err) {
			t.Error(err)
		}
	}
}

func TestRemovePlatforms(t *testing.T) {
	f := newFixture(t)
	here, away := hereAndAway()
	built := f.both(t, "one ", "app:1", "app:2")
	own := func(i int) digest.Digest {
		r, err := f.record(built.Manifests[i])
		if err != nil {
			t.Fatal(err)
		}
		return r.config.RootFS.DiffIDs[1]
	}
	awayLayer, hereLayer := own(0), own(1)
	f.used[built.Configs[0]] = []string{"container"}
	for _, wish := range [][]ocispec.Platform{{away}, nil} {
		if _, err := f.RemovePlatforms(ctx, built.Configs[1].String(), wish, false, false); !errdefs.IsConflict(err) {
			t.Error("an image in use is removed:", err)
		}
	}
	delete(f.used, built.Configs[0])
	list, err := f.RemovePlatforms(ctx, "app:1", []ocispec.Platform{away}, false, false)
	if untagged, removed := deleted(list); err != nil || len(removed) != 0 || len(untagged) != 1 || untagged[0] != "app@"+built.Manifests[0].Digest.String() {
		t.Errorf("%v %v", err, list)
	}
	f.has(t, "app:1", here)
	f.has(t, "app:2", here, away)
	list, err = f.RemovePlatforms(ctx, built.Configs[1].String(), []ocispec.Platform{away}, false, false)
	if _, removed := deleted(list); err != nil || len(removed) != 1 || removed[0] != built.Configs[0].String() {
		t.Errorf("%v %v", err, list)
	}
	f.has(t, "app:1", here)
	f.has(t, "app:2", here)
	if f.layers.Has(awayLayer) || !f.layers.Has(hereLayer) {
		t.Error("the wrong layers are gone")
	}
	if _, err := f.RemovePlatforms(ctx, "app:1", []ocispec.Platform{away}, false, false); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	// What is left of the index goes to an archive, and with the last platform the name goes.
	g := newFixture(t)
	if _, err := g.Load(ctx, bytes.NewReader(f.save(t, "app:1")), nil, nil); err != nil {
		t.Fatal(err)
	}
	g.has(t, "app:1", here)
	list, err = g.RemovePlatforms(ctx, "app:1", []ocispec.Platform{here}, false, false)
	if untagged, removed := deleted(list); err != nil || len(untagged) != 1 || len(removed) != 1 {
		t.Errorf("%v %v", err, list)
	}
	if n := blobCount(t, g); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

// TestRemoveFirst removes this host's image, so that the other is what the name stands for, and then by the image's id.
func TestRemoveFirst(t *testing.T) {
	f := newFixture(t)
	here, away := hereAndAway()
	f.both(t, "one ", "app:1")
	if _, err := f.RemovePlatforms(ctx, "app:1", []ocispec.Platform{here}, false, false); err != nil {
		t.Fatal(err)
	}
	f.has(t, "app:1", away)
	f.both(t, "three ", "app:3")
	img, err := f.Get(ctx, "app:3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Remove(ctx, "app@"+img.Manifest.Digest.String(), false, false); err != nil {
		t.Fatal(err)
	}
	f.has(t, "app:3", away)
	if _, err := f.Remove(ctx, "app:3", false, false); err != nil {
		t.Fatal(err)
	}
	built := f.both(t, "two ", "app:2")
	if _, err := f.Remove(ctx, built.Configs[0].String(), false, false); err != nil {
		t.Fatal(err)
	}
	f.has(t, "app:2", here)
	if _, err := f.Remove(ctx, "app:2", false, false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Remove(ctx, "app:1", false, false); err != nil {
		t.Fatal(err)
	}
	if n := blobCount(t, f); n != 0 || len(f.catalog.snapshot().entries) != 0 {
		t.Errorf("%d blobs are left, %+v", n, f.catalog.snapshot().entries)
	}
}

func TestSeveralLoseTheirName(t *testing.T) {
	f := newFixture(t)
	here, away := hereAndAway()
	old := f.both(t, "one ", "app:1")
	f.both(t, "two ", "app:1")
	f.has(t, old.Configs[1].String(), here, away)
	list, err := f.List(ctx, false, true, nil)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v %+v", err, list)
	}
	for _, sum := range list { // They have the common layer in common.
		if sum.SharedSize < 70_000 || sum.SharedSize >= sum.Size {
			t.Errorf("%d of %d bytes are shared", sum.SharedSize, sum.Size)
		}
	}
	f.used[old.Configs[0]] = []string{"container"}
	if _, err := f.Prune(ctx, filter.Args{}); err != nil {
		t.Fatal(err)
	}
	f.has(t, old.Configs[1].String(), here, away)
	total, free, err := f.Usage(ctx)
	if err != nil || free <= 0 || free >= total {
		t.Error(total, free, err)
	}
	delete(f.used, old.Configs[0])
	report, err := f.Prune(ctx, filter.Args{})
	if err != nil || len(report.ImagesDeleted) != 2 || report.SpaceReclaimed == 0 {
		t.Errorf("%v %+v", err, report)
	}
	f.has(t, "app:1", here, away)
	if report, err = f.Prune(ctx, filter.Args{"dangling": {"false"}}); err != nil || len(report.ImagesDeleted) != 3 {
		t.Errorf("%v %+v", err, report)
	}
	if n := blobCount(t, f); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

// TestTakingANameFromSome gives the names to one of its images alone, which leaves all of them together without one.
func TestTakingANameFromSome(t *testing.T) {
	f := newFixture(t)
	here, away := hereAndAway()
	built := f.both(t, "one ", "app:1", "app:2")
	if err := f.Tag(ctx, built.Configs[0].String(), "app:1"); err != nil {
		t.Fatal(err)
	}
	f.has(t, "app:1", away)
	f.has(t, "app:2", here, away)
	if err := f.Tag(ctx, built.Configs[0].String(), "app:2"); err != nil {
		t.Fatal(err)
	}
	f.has(t, built.Configs[1].String(), here, away) // It is dangling as a whole.
	if err := f.Tag(ctx, built.Configs[1].String(), "app:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Remove(ctx, "app:2", false, false); err != nil {
		t.Fatal(err)
	}
	f.has(t, "app:1", here, away)
	if n := len(f.catalog.snapshot().entries); n != 1 {
		t.Errorf("%d entries are left", n)
	}
}

// TestSharedIsNotMore measures images that share layers while another compression of a layer comes and goes.
func TestSharedIsNotMore(t *testing.T) {
	f := newFixture(t)
	o := f.twoLayers(t)
	if _, err := f.Build(ctx, o); err != nil {
		t.Fatal(err)
	}
	if _, err := f.List(ctx, true, true, nil); err != nil {
		t.Fatal(err)
	}
	o.Names, o.Compression = []string{"app:2"}, Compression{Type: "gzip", Force: true}
	if _, err := f.Build(ctx, o); err != nil {
		t.Fatal(err)
	}
	f.commit(t, "app:3", "", nil, map[string]string{"c": "c"})
	time.Sleep(time.Millisecond)
	list, err := f.List(ctx, true, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, sum := range list {
		if sum.SharedSize < 0 || sum.SharedSize > sum.Size {
			t.Errorf("%v: %d of %d bytes are shared", sum.RepoTags, sum.SharedSize, sum.Size)
		}
	}
}
