package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tarFile is an entry of an archive made by hand.
type tarFile struct {
	name, link string
	data       []byte
}

func makeTar(t testing.TB, files ...tarFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.data))}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func configOf(t testing.TB, diffIDs ...digest.Digest) []byte {
	t.Helper()
	var c dockerspec.DockerOCIImage
	c.OS, c.Architecture = "linux", hostArch()
	c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: diffIDs}
	return asJSON(t, c)
}

// oldArchive is what docker save wrote before version 25: a directory per layer, descriptions last, a link for a layer
// that is there twice.
func oldArchive(t testing.TB, layer []byte) []byte {
	t.Helper()
	id := digest.FromBytes(layer)
	return makeTar(t,
		tarFile{name: "aaa/VERSION", data: []byte("1.0")}, tarFile{name: "aaa/json", data: []byte("{}")},
		tarFile{name: "aaa/layer.tar", data: layer}, tarFile{name: "bbb/layer.tar", link: "../aaa/layer.tar"},
		tarFile{name: "config.json", data: configOf(t, id, id)},
		tarFile{name: "manifest.json", data: asJSON(t, []archived{{
			Config: "config.json", RepoTags: []string{"old:1", "old:2"}, Layers: []string{"aaa/layer.tar", "bbb/layer.tar"},
		}})},
		tarFile{name: "repositories", data: []byte(`{"old":{"1":"bbb"}}`)})
}

func TestLoadOldDockerArchive(t *testing.T) {
	f := newFixture(t)
	layer := plainLayer(t, map[string]string{"a": strings.Repeat("a", 5000)})
	list, err := f.Load(ctx, bytes.NewReader(oldArchive(t, layer)), nil, nil)
	if err != nil || len(list) != 2 || list[0].ID != list[1].ID {
		t.Fatal(list, err)
	}
	got, err := f.Get(ctx, "old:2")
	if want := []string{"docker.io/library/old:1", "docker.io/library/old:2"}; err != nil || !slices.Equal(got.Names, want) {
		t.Errorf("%v %v", got, err)
	}
	if !f.content.Has(digest.FromBytes(layer)) || len(list[0].Layers) != 2 {
		t.Error("the layer was not stored as it is")
	}
	// A second time, everything is there.
	if _, err := f.Load(ctx, bytes.NewReader(oldArchive(t, layer)), nil, nil); err != nil {
		t.Error(err)
	}
}

func TestLoadEmptyLayer(t *testing.T) {
	f := newFixture(t)
	empty := make([]byte, 1024)
	raw := makeTar(t, tarFile{name: "layer.tar", data: empty}, tarFile{name: "c", data: configOf(t, digest.FromBytes(empty))},
		tarFile{name: "manifest.json", data: asJSON(t, []archived{{Config: "c", Layers: []string{"layer.tar"}}})})
	if list, err := f.Load(ctx, bytes.NewReader(raw), nil, nil); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}

// What is here already may be left out, as pack does it: an empty file stands for it, or nothing does.
func TestLoadLayersLeftOut(t *testing.T) {
	f := newFixture(t)
	base, top := plainLayer(t, map[string]string{"a": "base"}), plainLayer(t, map[string]string{"b": "top"})
	archive := func(names ...string) []byte {
		return makeTar(t, tarFile{name: "blank_0"}, tarFile{name: "top.tar", data: top},
			tarFile{name: "c", data: configOf(t, digest.FromBytes(base), digest.FromBytes(top))},
			tarFile{name: "manifest.json", data: asJSON(t, []archived{{Config: "c", Layers: names}})})
	}
	for _, name := range []string{"blank_0", "not/there"} {
		if list, err := f.Load(ctx, bytes.NewReader(archive(name, "top.tar")), nil, nil); err == nil {
			t.Errorf("%s: loaded without its base: %v", name, list)
		}
	}
	if _, err := f.Load(ctx, bytes.NewReader(oldArchive(t, base)), nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"blank_0", "not/there"} {
		list, err := f.Load(ctx, bytes.NewReader(archive(name, "top.tar")), nil, nil)
		if err != nil || len(list) != 1 || len(list[0].Layers) != 2 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

func TestLoadHostileArchives(t *testing.T) {
	layer := plainLayer(t, map[string]string{"a": "a"})
	id := digest.FromBytes(layer)
	manifest := func(config, layer string) tarFile {
		return tarFile{name: "manifest.json", data: asJSON(t, []archived{{Config: config, RepoTags: []string{"x:1"}, Layers: []string{layer}}})}
	}
	good := tarFile{name: "l", data: layer}
	index := func(d ocispec.Descriptor) tarFile {
		return tarFile{name: "index.json", data: asJSON(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{d}})}
	}
	escape := makeTar(t, tarFile{name: "../../../escaped", data: []byte("x")}, tarFile{name: "up", link: "/"}, tarFile{name: "up/escaped", data: []byte("x")})
	cut := oldArchive(t, layer)
	for name, raw := range map[string][]byte{
		"nothing":                             nil,
		"text":                                []byte(strings.Repeat("hello ", 200)),
		"half":                                cut[:2000],
		"half a gzip":                         gzipped(t, cut)[:400],
		"no description":                      makeTar(t, good),
		"description is no list":              makeTar(t, tarFile{name: "manifest.json", data: []byte(`{"a":1}`)}),
		"no configuration":                    makeTar(t, good, manifest("c", "l")),
		"no layer":                            makeTar(t, tarFile{name: "c", data: configOf(t, id)}, manifest("c", "l")),
		"another layer":                       makeTar(t, good, tarFile{name: "c", data: configOf(t, digest.FromString("other"))}, manifest("c", "l")),
		"too few layers":                      makeTar(t, good, tarFile{name: "c", data: configOf(t)}, manifest("c", "l")),
		"wrong diff id":                       makeTar(t, good, tarFile{name: "c", data: configOf(t, "sha256:../../x")}, manifest("c", "l")),
		"configuration is a link to the host": makeTar(t, good, tarFile{name: "c", link: "/etc/passwd"}, manifest("c", "l")),
		"links in a ring":                     makeTar(t, tarFile{name: "c", link: "d"}, tarFile{name: "d", link: "c"}, manifest("c", "l")),
		"path out of the archive":             makeTar(t, good, manifest("../../../../etc/passwd", "l")),
		"blob with other bytes":               makeTar(t, tarFile{name: "blobs/sha256/" + digest.FromString("x").Encoded(), data: layer}),
		"index without manifest":              makeTar(t, index(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: id, Size: 1})),
		"index of nonsense":                   makeTar(t, index(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:..", Size: -1})),
		"index of a strange kind":             makeTar(t, index(ocispec.Descriptor{MediaType: "application/x", Digest: id})),
		"layer in damaged xz":                 makeTar(t, tarFile{name: "l", data: []byte("\xfd7zXZ\x00 and so on")}),
		"bad name": makeTar(t, good, tarFile{name: "c", data: configOf(t, id)},
			tarFile{name: "manifest.json", data: asJSON(t, []archived{{Config: "c", RepoTags: []string{"NOT A NAME"}, Layers: []string{"l"}}})}),
		"layer that climbs out": makeTar(t, tarFile{name: "l", data: escape}, tarFile{name: "c", data: configOf(t, id)}, manifest("c", "l")),
		"huge description":      makeTar(t, tarFile{name: "c", data: bytes.Repeat([]byte(" "), smallFile+1)}),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if list, err := f.Load(ctx, bytes.NewReader(raw), nil, nil); err == nil {
				t.Fatalf("loaded %+v", list)
			}
			if list, err := f.List(ctx, true, false, nil); err != nil || len(list) != 0 {
				t.Errorf("an image was made: %v %v", list, err)
			}
			if _, err := f.Prune(ctx, nil); err != nil || blobCount(t, f) != 0 {
				t.Errorf("blobs are left: %v", err)
			}
			if found, _ := filepath.Glob(filepath.Join(f.dir, "*escaped*")); len(found) > 0 {
				t.Error("a file escaped")
			}
		})
	}
}

func TestLoadOfAnotherPlatform(t *testing.T) {
	f := newFixture(t)
	raw := oldArchive(t, plainLayer(t, map[string]string{"a": "a"}))
	_, err := f.Load(ctx, bytes.NewReader(raw), []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}, nil)
	if !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

// TestLoadWhatOthersWrite has skopeo convert an image to the archives that podman and docker write.
func TestLoadWhatOthersWrite(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	f := newFixture(t)
	img := f.commit(t, "app:1", "", nil, map[string]string{"a": "a"})
	for _, format := range []string{"docker-archive", "oci-archive"} {
		archive := filepath.Join(t.TempDir(), "a.tar")
		to := fmt.Sprintf("%s:%s:docker.io/library/copy:1", format, archive)
		out, err := exec.Command(skopeo, "--insecure-policy", "copy", "oci:"+f.content.Dir()+":docker.io/library/app:1", to).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo: %v: %s", err, out)
		}
		r, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		g := newFixture(t)
		list, err := g.Load(ctx, r, nil, nil)
		if err != nil || len(list) != 1 || list[0].Layers[0] != img.Layers[0] || !slices.Equal(list[0].Names, []string{"docker.io/library/copy:1"}) {
			t.Errorf("%s: %+v %v", format, list, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	layer := plainLayer(f, map[string]string{"a": "a"})
	f.Add(oldArchive(f, layer))
	f.Add(gzipped(f, oldArchive(f, layer)))
	f.Add([]byte("text"))
	store := newFixture(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := store.Load(ctx, bytes.NewReader(raw), nil, nil)
		if err == nil && len(list) == 0 {
			t.Error("neither an image nor an error")
		}
	})
}

func FuzzName(f *testing.F) {
	for _, seed := range []string{"debian", "a/b:c", "host:5000/x@sha256:" + strings.Repeat("a", 64), "sha256:ab", "A", "::", "x@y"} {
		f.Add(seed)
	}
	snap := newSnapshot([]entry{{name: "docker.io/library/debian:12", id: digest.FromString("x")}}, nil)
	f.Fuzz(func(t *testing.T, ref string) {
		if e, err := snap.find(ref); err == nil && e.id == "" {
			t.Error("found nothing without an error")
		}
		full, err := fullName(ref)
		if err != nil {
			return
		}
		if again, err := fullName(full); err != nil || again != full {
			t.Errorf("%q: %q is not stable: %q %v", ref, full, again, err)
		}
		if !strings.HasPrefix(full, repository(full)) || repository(full) == full {
			t.Errorf("%q: repository %q", full, repository(full))
		}
	})
}

func FuzzManifest(f *testing.F) {
	ti := standardImage(f)
	f.Add(ti.blobs[ti.manifest.Digest], ti.blobs[ti.config.Digest])
	f.Add([]byte(`{"manifests":[{"platform":null}]}`), []byte(`{"rootfs":{"diff_ids":["x"]}}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		if m, err := parseManifest(manifest); err == nil {
			if c, err := parseConfig(config, len(m.Layers)); err == nil && len(c.RootFS.DiffIDs) != len(m.Layers) {
				t.Error("layers and diff ids differ in number")
			}
		}
		if index, err := parseIndex(manifest); err == nil {
			if d, err := choose(index, nil); err == nil && checkDescriptor(d) != nil {
				t.Errorf("chose %+v", d)
			}
		}
		_, _ = kindOf("", manifest)
	})
}
