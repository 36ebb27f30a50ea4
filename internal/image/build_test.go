package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/layer"
)

// build makes a layer as a step of a build does, on top of others.
func (f *fixture) layer(t testing.TB, hold *layer.Hold, files map[string]string, below ...digest.Digest) digest.Digest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlay attributes")
	}
	o, err := f.layers.Prepare(ctx, "build", below, layer.PrepareOptions{Bare: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range files {
		at := filepath.Join(o.Upper, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	made, err := f.layers.Commit(ctx, "build", layer.CommitOptions{Hold: hold})
	if err != nil {
		t.Fatal(err)
	}
	return made.DiffID
}

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	dated = time.Unix(1_700_000_000, 0).UTC()
)

// frontend is a configuration as a frontend makes it.
func frontend(t testing.TB, rows ...ocispec.History) []byte {
	t.Helper()
	return asJSON(t, map[string]any{
		"architecture": hostArch(), "os": "linux", "history": rows, "strange": 1,
		"config": map[string]any{"Cmd": []string{"sh"}, "Labels": map[string]string{"a": "b"}},
	})
}

// twoLayers is a build of two layers with a step between them that made none.
func (f *fixture) twoLayers(t testing.TB) BuildOptions {
	t.Helper()
	hold := f.layers.Hold()
	t.Cleanup(hold.Release)
	a := f.layer(t, hold, map[string]string{"a": "A", "d/x": strings.Repeat("x", 100_000)})
	b := f.layer(t, hold, map[string]string{"b": "B"}, a)
	return BuildOptions{
		Names: []string{"app:1"},
		Images: []BuildImage{{
			Platform: ocispec.Platform{OS: "linux", Architecture: hostArch()}, Layers: []digest.Digest{a, layer.Empty, b},
			Config: frontend(t, ocispec.History{CreatedBy: "ENV x", EmptyLayer: true}, ocispec.History{CreatedBy: "COPY a"},
				ocispec.History{CreatedBy: "RUN true"}, ocispec.History{CreatedBy: "COPY b"}),
		}},
	}
}

func TestBuild(t *testing.T) {
	f := newFixture(t)
	o := f.twoLayers(t)
	built, err := f.Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	img, err := f.Get(ctx, "app:1")
	if err != nil || img.ID != built.Image.ID || img.ID != built.Configs[0] || img.Manifest.Digest != built.Top.Digest {
		t.Fatalf("%v %+v %+v", err, img, built)
	}
	if !slices.Equal(img.Layers, o.Images[0].Layers) || img.Config.Config.Labels["a"] != "b" {
		t.Errorf("%+v", img)
	}
	rows, err := f.History(ctx, "app:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"COPY b", "RUN true", "COPY a", "ENV x"} {
		if h := rows[i]; h.CreatedBy != want || (h.Size > 0) != strings.HasPrefix(want, "COPY") || h.Created == 0 {
			t.Errorf("row %d: %+v", i, h)
		}
	}
	raw, err := f.content.Bytes(img.ID, configLimit)
	if err != nil || !bytes.Contains(raw, []byte(`"strange":1`)) {
		t.Error("a member that is not known here is gone", err)
	}
	// Nothing but descriptions was written, and building again writes nothing.
	if n := blobCount(t, f); n != 2 {
		t.Error("blobs:", n)
	}
	time.Sleep(20 * time.Millisecond)
	again, err := f.Build(ctx, o)
	if err != nil || again.Image.ID != img.ID || again.Top.Digest != built.Top.Digest {
		t.Errorf("%v %+v", err, again)
	}
}

// TestBuildKeepsLayers has a built image survive a collection, a restart, and a container's commit on top.
func TestBuildKeepsLayers(t *testing.T) {
	dir := t.TempDir()
	f := openFixture(t, dir)
	hold := f.layers.Hold()
	id := f.layer(t, hold, map[string]string{"a": "A"})
	o := BuildOptions{Names: []string{"app"}, Images: []BuildImage{{Platform: amd64, Layers: []digest.Digest{id}}}}
	if _, err := f.Build(ctx, o); err != nil {
		t.Fatal(err)
	}
	hold.Release()
	if _, err := f.Collect(ctx); err != nil || !f.layers.Has(id) {
		t.Fatal("the image's layer was collected", err)
	}
	img, err := f.Get(ctx, "app")
	if err != nil {
		t.Fatal(err)
	}
	child := f.commit(t, "child", img.ID, nil, map[string]string{"new": "n"})
	if len(child.Layers) != 2 || child.Layers[0] != id {
		t.Error(child.Layers)
	}
	if _, err := f.Remove(ctx, "app", false, false); err != nil {
		t.Fatal(err)
	}
	if !f.layers.Has(id) {
		t.Error("a layer that another image needs is gone")
	}
	g := openFixture(t, dir)
	if !g.layers.Has(id) {
		t.Error("the layer is gone after a restart")
	}
	if _, err := g.Remove(ctx, "child", true, false); err != nil || g.layers.Has(id) {
		t.Error("the layer stays when nothing needs it", err)
	}
}

// TestBuildReproducible makes the same image in two stores at two times.
func TestBuildReproducible(t *testing.T) {
	type outcome struct {
		ids                []digest.Digest
		oci, docker, zstd  digest.Digest
		top, config, plain digest.Digest
	}
	var all []outcome
	for range 2 {
		f := newFixture(t)
		o := f.twoLayers(t)
		o.Rewrite, o.Images[0].Epoch = true, &dated
		built, err := f.Build(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		one := outcome{ids: built.Image.Layers, top: built.Top.Digest, config: built.Configs[0]}
		one.oci, _ = f.archive(t, o, false)
		one.docker, _ = f.archive(t, o, true)
		o.Compression.Type = "zstd"
		one.zstd, _ = f.archive(t, o, false)
		o.Compression.Type = "uncompressed"
		one.plain, _ = f.archive(t, o, false)
		all = append(all, one)
		time.Sleep(1100 * time.Millisecond) // tars tell whole seconds
	}
	if a, b := all[0], all[1]; !slices.Equal(a.ids, b.ids) || a.oci != b.oci || a.docker != b.docker || a.zstd != b.zstd || a.top != b.top ||
		a.config != b.config || a.plain != b.plain {
		t.Errorf("\n%+v\n%+v", a, b)
	}
}

// archive writes an archive and returns its digest and what is in it.
func (f *fixture) archive(t testing.TB, o BuildOptions, docker bool) (digest.Digest, map[string][]byte) {
	t.Helper()
	var buf bytes.Buffer
	if _, err := f.WriteBuild(ctx, o, docker, &buf); err != nil {
		t.Fatal(err)
	}
	d, files := digest.FromBytes(buf.Bytes()), map[string][]byte{}
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return d, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriteBuild(t *testing.T) {
	for _, c := range []struct {
		name        string
		change      func(*BuildOptions)
		docker      bool
		kind        archive.Compression
		media, meta string
	}{
		{"oci", func(*BuildOptions) {}, false, archive.Gzip, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageManifest},
		{"docker", func(o *BuildOptions) { o.DockerTypes = true }, true, archive.Gzip, dockerLayerGzip, "application/vnd.docker.distribution.manifest.v2+json"},
		{"zstd", func(o *BuildOptions) { o.Compression.Type = "zstd" }, false, archive.Zstd, ocispec.MediaTypeImageLayerZstd, ocispec.MediaTypeImageManifest},
		{"plain", func(o *BuildOptions) { o.Compression.Type = "uncompressed" }, true, archive.Plain, ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageManifest},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, g := newFixture(t), newFixture(t)
			o := f.twoLayers(t)
			c.change(&o)
			before := blobCount(t, f)
			_, files := f.archive(t, o, c.docker)
			if n := blobCount(t, f); n != before {
				t.Errorf("%d blobs stay in the store", n-before)
			}
			_, manifest := files["manifest.json"]
			if manifest != c.docker {
				t.Error("docker's description is there:", manifest)
			}
			var index ocispec.Index
			if err := json.Unmarshal(files["index.json"], &index); err != nil {
				t.Fatal(err)
			}
			top := index.Manifests[0]
			if top.MediaType != c.meta || top.Annotations[annotationName] != "1" {
				t.Errorf("%+v", top)
			}
			var m ocispec.Manifest
			if err := json.Unmarshal(files[blobName(top.Digest)], &m); err != nil {
				t.Fatal(err)
			}
			for i, l := range m.Layers {
				raw := files[blobName(l.Digest)]
				if l.MediaType != c.media || archive.Detect(raw[:min(len(raw), 6)]) != c.kind || digest.FromBytes(raw) != l.Digest || int64(len(raw)) != l.Size {
					t.Errorf("layer %d: %+v, %d bytes", i, l, len(raw))
				}
			}
			var again bytes.Buffer
			if _, err := f.WriteBuild(ctx, o, c.docker, &again); err != nil {
				t.Fatal(err)
			}
			images, err := g.Load(ctx, &again, nil, nil)
			if err != nil || len(images) != 1 || !slices.Equal(images[0].Layers, o.Images[0].Layers) {
				t.Errorf("loaded %v: %v", images, err)
			}
		})
	}
}

// TestBuildSaveAndPush has an image without blobs leave by the ways that all images leave by.
func TestBuildSaveAndPush(t *testing.T) {
	f, g := newFixture(t), newFixture(t)
	srv := newServer(t)
	o := f.twoLayers(t)
	name := srv.host + "/app:1"
	o.Names = []string{name}
	built, err := f.Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	saved := f.save(t, name)
	if images, err := g.Load(ctx, bytes.NewReader(saved), nil, nil); err != nil || images[0].ID != built.Image.ID {
		t.Fatal("load of what was saved:", err)
	}
	log := new(reportLog)
	if err := f.Push(ctx, name, PullOptions{Report: log.add}); err != nil {
		t.Fatal(err)
	}
	h := newFixture(t)
	img, _ := h.pull(t, name)
	if img.ID != built.Image.ID || !slices.Equal(img.Layers, built.Image.Layers) {
		t.Errorf("pulled %+v", img)
	}
	for _, l := range mustRecord(t, h, img).manifest.Layers {
		if l.MediaType != ocispec.MediaTypeImageLayerGzip {
			t.Error("pushed without compression:", l.MediaType)
		}
	}
	// It is known by the digest that it was pushed under, and a second push sends nothing.
	if _, err := f.Get(ctx, srv.host+"/app@"+img.Manifest.Digest.String()); err != nil {
		t.Error(err)
	}
	second := new(reportLog)
	if err := f.Push(ctx, name, PullOptions{Report: second.add}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(second.statuses(), "Pushed") {
		t.Error("the second push sent something:", second.statuses())
	}
}

func TestPushBuild(t *testing.T) {
	f := newFixture(t)
	srv := newServer(t)
	o := f.twoLayers(t)
	o.Names, o.Index = []string{srv.host + "/multi:1"}, true
	other := o.Images[0]
	other.Platform, other.Config = arm64, bytes.ReplaceAll(other.Config, []byte(hostArch()), []byte("arm64"))
	o.Images = append(o.Images, other)
	o.Images[0].Attestations = []Attestation{{PredicateType: "https://slsa.dev/provenance/v0.2", Predicate: []byte(`{"a":1}`), Subjects: []string{"pkg:docker/x@1"}}}
	o.Images[0].Annotations = map[string]string{"k": "v"}
	asked := 0
	built, err := f.PushBuild(ctx, PushBuildOptions{BuildOptions: o, Auth: func(context.Context, reference.Named) (*apiregistry.AuthConfig, error) {
		asked++
		return nil, nil //nolint:nilnil // none
	}})
	if err != nil || asked != 1 || built.Top.MediaType != ocispec.MediaTypeImageIndex {
		t.Fatal(err, asked, built)
	}
	if n := blobCount(t, f); n != 0 {
		t.Error("blobs left:", n)
	}
	g := newFixture(t)
	img, _ := g.pull(t, srv.host+"/multi:1")
	if img.ID != built.Configs[0] {
		t.Error(img.ID, built.Configs)
	}
	if m := mustRecord(t, g, img).manifest; m.Annotations["k"] != "v" {
		t.Error(m.Annotations)
	}
	if arm, err := g.Pull(ctx, srv.host+"/multi:1", PullOptions{Platform: &arm64}); err != nil || arm.ID != built.Configs[1] {
		t.Error(arm, err)
	}
}

func TestAttestation(t *testing.T) {
	f := newFixture(t)
	o := f.twoLayers(t)
	o.Images[0].Attestations = []Attestation{{PredicateType: "p", Predicate: []byte(`{"x":1}`), Subjects: []string{"pkg:docker/app@1"}}}
	_, files := f.archive(t, o, false)
	var layout, index ocispec.Index
	var m ocispec.Manifest
	var s statement
	mustJSON(t, files["index.json"], &layout)
	mustJSON(t, files[blobName(layout.Manifests[0].Digest)], &index)
	if len(index.Manifests) != 2 {
		t.Fatal(index)
	}
	about, at := index.Manifests[0], index.Manifests[1]
	if at.Platform.OS != "unknown" || !maps.Equal(at.Annotations, map[string]string{referenceType: attestationMarker, referenceDigest: about.Digest.String()}) {
		t.Errorf("%+v", at)
	}
	mustJSON(t, files[blobName(at.Digest)], &m)
	if m.Layers[0].MediaType != inTotoType || m.Layers[0].Annotations[inTotoPredicate] != "p" {
		t.Errorf("%+v", m)
	}
	mustJSON(t, files[blobName(m.Layers[0].Digest)], &s)
	if s.PredicateType != "p" || string(s.Predicate) != `{"x":1}` || s.Subject[0].Digest["sha256"] != about.Digest.Encoded() || s.Subject[0].Name != "pkg:docker/app@1" {
		t.Errorf("%+v", s)
	}
}

func mustJSON(t *testing.T, raw []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%v: %q", err, raw)
	}
}

func TestBuildRefuses(t *testing.T) {
	f := newFixture(t)
	o := f.twoLayers(t)
	for name, c := range map[string]struct {
		change func(*BuildOptions)
		is     func(error) bool
	}{
		"estargz":     {func(o *BuildOptions) { o.Compression.Type = "estargz" }, errdefs.IsNotImplemented},
		"compression": {func(o *BuildOptions) { o.Compression.Type = "lzma" }, errdefs.IsInvalidArgument},
		"level":       {func(o *BuildOptions) { n := 77; o.Compression = Compression{Type: "gzip", Level: &n} }, errdefs.IsInvalidArgument},
		"name":        {func(o *BuildOptions) { o.Names = []string{"UPPER"} }, errdefs.IsInvalidArgument},
		"config":      {func(o *BuildOptions) { o.Images[0].Config = []byte("[]") }, errdefs.IsInvalidArgument},
		"null":        {func(o *BuildOptions) { o.Images[0].Config = []byte("null") }, errdefs.IsInvalidArgument},
		"layer":       {func(o *BuildOptions) { o.Images[0].Layers = []digest.Digest{digest.FromString("x")} }, errdefs.IsNotFound},
	} {
		bad := o
		bad.Images = slices.Clone(o.Images)
		c.change(&bad)
		if _, err := f.Build(ctx, bad); err == nil || !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPutLayer keeps a layer that belongs to no image, with its blob, while somebody needs it.
func TestPutLayer(t *testing.T) {
	f := newFixture(t)
	raw := plainLayer(t, map[string]string{"a": "A"})
	id, blob := digest.FromBytes(raw), gzipped(t, raw)
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	hold := f.layers.Hold()
	if err := f.PutLayer(ctx, id, d, bytes.NewReader(blob), hold); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Collect(ctx); err != nil || !f.layers.Has(id) || !f.content.Has(d.Digest) {
		t.Fatal("collected while it is held", err)
	}
	built, err := f.Build(ctx, BuildOptions{Images: []BuildImage{{Platform: amd64, Layers: []digest.Digest{id}}}})
	if err != nil || built.Image.Manifest.Digest == "" {
		t.Fatal(err)
	}
	list, release, err := f.LayerBlobs(ctx, []digest.Digest{id}, Compression{Type: "zstd", Force: true})
	if err != nil || list[0].MediaType != ocispec.MediaTypeImageLayerZstd {
		t.Error(list, err)
	}
	release()
	if _, err := f.Remove(ctx, built.Image.ID.String(), true, false); err != nil {
		t.Fatal(err)
	}
	hold.Release()
	if _, err := f.Collect(ctx); err != nil || f.layers.Has(id) || f.content.Has(d.Digest) {
		t.Error("it stays when nobody needs it", err)
	}
	bad := d
	bad.Digest = digest.FromString("x")
	if err := f.PutLayer(ctx, id, bad, bytes.NewReader(blob), hold); !errdefs.IsDataLoss(err) {
		t.Error(err)
	}
}

func TestFinishConfig(t *testing.T) {
	f := newFixture(t)
	early, late := dated.Add(-time.Hour), dated.Add(time.Hour)
	base := ocispec.Image{History: []ocispec.History{{CreatedBy: "base", Created: &late}}}
	img := &BuildImage{
		Platform: amd64, Base: asJSON(t, base), Epoch: &dated,
		Config: asJSON(t, map[string]any{"os": "linux", "architecture": "amd64", "created": late, "history": []ocispec.History{
			{CreatedBy: "base", Created: &late}, {CreatedBy: "two", Created: &early}, {CreatedBy: "three"}, {CreatedBy: "too many"},
		}}),
	}
	raw, err := f.finishConfig(img, []digest.Digest{"sha256:a", "sha256:b", "sha256:c"})
	if err != nil {
		t.Fatal(err)
	}
	var got ocispec.Image
	mustJSON(t, raw, &got)
	want := []ocispec.History{
		{CreatedBy: "base", Created: &late},
		{CreatedBy: "two", Created: &early},
		{CreatedBy: "three", Created: &early},
		{CreatedBy: "too many", Created: &early, EmptyLayer: true},
	}
	for i, h := range got.History {
		if h.CreatedBy != want[i].CreatedBy || !h.Created.Equal(*want[i].Created) || h.EmptyLayer != want[i].EmptyLayer {
			t.Errorf("row %d: %+v, want %+v", i, h, want[i])
		}
	}
	if !got.Created.Equal(dated) || len(got.RootFS.DiffIDs) != 3 {
		t.Errorf("%+v", got)
	}
	// Rows that lack are added; without any configuration there is one.
	if raw, err = f.finishConfig(&BuildImage{Platform: arm64}, []digest.Digest{"sha256:a"}); err != nil {
		t.Fatal(err)
	}
	got = ocispec.Image{}
	mustJSON(t, raw, &got)
	if len(got.History) != 1 || got.Architecture != "arm64" || got.RootFS.Type != "layers" {
		t.Errorf("%+v", got)
	}
}
