package image

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pushed reads an index and what it names from a registry.
func (s *server) pushed(t *testing.T, name, ref string) (ocispec.Index, []byte) {
	t.Helper()
	raw := s.get(t, "/v2/"+name+"/manifests/"+ref)
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	return index, raw
}

func (s *server) get(t *testing.T, path string) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", strings.Join([]string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest}, ","))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %s", path, err, b.String())
	}
	return b.Bytes()
}

func TestPushSeveral(t *testing.T) {
	f, srv := newFixture(t), newServer(t)
	here, away := hereAndAway()
	ref := srv.host + "/app:1"
	f.both(t, "one ", ref)
	if err := f.Push(ctx, ref, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	index, raw := srv.pushed(t, "app", "1")
	if len(index.Manifests) != 4 {
		t.Fatalf("%s", raw)
	}
	for _, d := range index.Manifests[2:] { // The statements are about the manifests that were pushed, compressed.
		var m ocispec.Manifest
		var st statement
		if err := json.Unmarshal(srv.get(t, "/v2/app/manifests/"+d.Digest.String()), &m); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(srv.get(t, "/v2/app/blobs/"+m.Layers[0].Digest.String()), &st); err != nil {
			t.Fatal(err)
		}
		subject := digest.NewDigestFromEncoded("sha256", st.Subject[0].Digest["sha256"])
		if subject != about(d) || !slices.ContainsFunc(index.Manifests[:2], func(o ocispec.Descriptor) bool { return o.Digest == subject }) {
			t.Errorf("%+v is about %s", st, about(d))
		}
	}
	// A second push has nothing to add, and names nothing twice.
	if err := f.Push(ctx, ref, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if img, err := f.Get(ctx, ref); err != nil || len(img.Names) != 2 {
		t.Errorf("%v %v", err, img.Names)
	}

	// Elsewhere it is pulled for one platform, and then for another.
	g := newFixture(t)
	g.pull(t, ref)
	g.has(t, ref, here)
	copied := srv.host + "/copy:1"
	if err := g.Tag(ctx, ref, copied); err != nil {
		t.Fatal(err)
	}
	var log reportLog
	if err := g.Push(ctx, copied, PullOptions{Report: log.add}); err != nil {
		t.Fatal(err)
	}
	if said := strings.Join(log.statuses(), "\n"); !strings.Contains(said, "not pushed: linux/"+away.Architecture) {
		t.Error(said)
	}
	if index, raw := srv.pushed(t, "copy", "1"); len(index.Manifests) != 0 {
		t.Errorf("%s", raw)
	}
	if _, err := g.Pull(ctx, ref, PullOptions{Platform: &away}); err != nil {
		t.Fatal(err)
	}
	g.has(t, ref, here, away)
	if img, err := g.Get(ctx, ref); err != nil || img.Config.Architecture != here.Architecture {
		t.Errorf("%v %+v", err, img)
	}
	if list, err := g.List(ctx, false, false, nil); err != nil || len(list) != 1 {
		t.Errorf("%v %+v", err, list)
	}
	// Now all images are there, but not the statements, which nobody pulls.
	if err := g.Push(ctx, ref, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if index, raw := srv.pushed(t, "app", "1"); len(index.Manifests) != 2 {
		t.Errorf("%s", raw)
	}
	if err := g.Push(ctx, ref, PullOptions{Platform: &away}); err != nil {
		t.Fatal(err)
	}
	if index, raw := srv.pushed(t, "app", "1"); len(index.Manifests) != 0 || !bytes.Contains(raw, []byte(ocispec.MediaTypeImageConfig)) {
		t.Errorf("%s", raw)
	}
}

func TestSaveAndLoadSeveral(t *testing.T) {
	f := newFixture(t)
	here, away := hereAndAway()
	built := f.both(t, "one ", "app:1")
	g := newFixture(t)
	images, err := g.Load(ctx, bytes.NewReader(f.save(t, "app:1")), nil, nil)
	if err != nil || len(images) != 1 || images[0].ID != built.Configs[1] {
		t.Fatalf("%v %+v", err, images)
	}
	g.has(t, "app:1", here, away)
	if img, err := g.Get(ctx, "app@"+built.Top.Digest.String()); err != nil || img.ID != built.Configs[1] {
		t.Error("the index is another one", err)
	}
	checkManifests(t, g, built)
	if again := g.save(t, "app:1"); !bytes.Equal(again, f.save(t, "app:1")) {
		t.Error("a loaded image is saved otherwise")
	}
	// One platform of it, from either end.
	var b bytes.Buffer
	if err := f.Save(ctx, []string{"app:1"}, []ocispec.Platform{away}, &b); err != nil {
		t.Fatal(err)
	}
	one := newFixture(t)
	if _, err := one.Load(ctx, &b, nil, nil); err != nil {
		t.Fatal(err)
	}
	one.has(t, "app:1", away)
	two := newFixture(t)
	if _, err := two.Load(ctx, bytes.NewReader(f.save(t, "app:1")), []ocispec.Platform{here}, nil); err != nil {
		t.Fatal(err)
	}
	two.has(t, "app:1", here)
	if _, err := two.Load(ctx, bytes.NewReader(f.save(t, "app:1")), []ocispec.Platform{away}, nil); err != nil {
		t.Fatal(err)
	}
	two.has(t, "app:1", here, away)
	absent := []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}
	if err := f.Save(ctx, []string{"app:1"}, absent, new(bytes.Buffer)); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err := two.Load(ctx, bytes.NewReader(f.save(t, "app:1")), absent, nil); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

// TestShelfHasSeveral serves an index that was built here to another store, which takes it in.
func TestShelfHasSeveral(t *testing.T) {
	f, g := newFixture(t), newFixture(t)
	here, away := hereAndAway()
	built := f.both(t, "one ", "app:1")
	from, to := f.Shelf(), g.Shelf()
	defer from.Close()
	defer to.Close()
	top, raw, err := from.Manifest("app", "1")
	if err != nil || top.Digest != built.Top.Digest {
		t.Fatal(top, err)
	}
	index, err := parseIndex(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		moveManifest(t, from, to, d.Digest.String())
	}
	if _, err := to.Put(ctx, Put{Repo: "app", Ref: "1", MediaType: top.MediaType, Raw: raw}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := g.Outgoing(ctx, "app@"+built.Manifests[0].Digest.String()) // Its layers are not unpacked yet.
	if err != nil {
		t.Fatal(err)
	}
	out.Close()
	g.has(t, "app:1", here, away)
	if got, _, err := to.Manifest("app", "1"); err != nil || got.Digest != top.Digest {
		t.Error(got, err)
	}
	if err := to.Delete(ctx, "app", top.Digest.String()); err != nil {
		t.Error(err)
	}
	if _, err := g.Get(ctx, "app:1"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

// moveManifest moves a manifest with its blobs from shelf to shelf.
func moveManifest(t *testing.T, from, to *Shelf, ref string) {
	t.Helper()
	d, raw, err := from.Manifest("app", ref)
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if _, err := from.Hold(b.Digest); err != nil {
			t.Fatal(err)
		}
		r, err := from.Stream(ctx, b.Digest)
		if err != nil {
			t.Fatal(err)
		}
		up, err := to.Upload()
		if err != nil {
			t.Fatal(err)
		}
		var raw bytes.Buffer
		if _, err := raw.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if _, err := up.Write(raw.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := up.Commit(b.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := to.Put(ctx, Put{Repo: "app", Ref: ref, MediaType: d.MediaType, Raw: raw}); err != nil {
		t.Fatal(err)
	}
}

// TestLoadNestedIndexes loads an index that names one with many names for the same image: it is taken once.
func TestLoadNestedIndexes(t *testing.T) {
	f := newFixture(t)
	img := standardImage(t)
	wide := func(d ocispec.Descriptor) []byte {
		index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
		for range 500 {
			index.Manifests = append(index.Manifests, d)
		}
		return asJSON(t, index)
	}
	top := img.manifest
	for range 4 {
		top = img.add(ocispec.MediaTypeImageIndex, wide(top))
	}
	entry := top
	entry.Annotations = map[string]string{annotationImage: "docker.io/library/app:1"}
	files := map[string]string{"index.json": string(asJSON(t, ocispec.Index{Manifests: []ocispec.Descriptor{entry}}))}
	for d, raw := range img.blobs {
		files[blobName(d)] = string(raw)
	}
	if _, err := f.Load(ctx, bytes.NewReader(plainLayer(t, files)), nil, nil); err != nil {
		t.Fatal(err)
	}
	if all, err := f.All(ctx, "app:1"); err != nil || len(all) != 1 {
		t.Errorf("%v %v", err, all)
	}
}
