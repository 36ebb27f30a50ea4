package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/zstd"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/testbed/suite"
)

func TestMain(m *testing.M) { suite.InMemory(m) }

// fixture is a store in a directory of its own.
type fixture struct {
	*Store
	dir  string
	bus  *event.Bus
	used map[digest.Digest][]string
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return openFixture(t, t.TempDir())
}

func openFixture(t testing.TB, dir string) *fixture {
	t.Helper()
	layers, err := layer.Open(filepath.Join(dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { layers.Close() })
	f := &fixture{dir: dir, bus: new(event.Bus), used: map[digest.Digest][]string{}}
	f.Store, err = Open(Options{
		Dir: filepath.Join(dir, "content"), Layers: layers, Events: f.bus,
		InUse: func() map[digest.Digest][]string { return f.used },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// plainLayer is a tar of files with content; a layer differs by its files.
func plainLayer(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t testing.TB, raw []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(raw, nil)
}

// noise is n bytes that do not compress.
func noise(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// testImage is an image in memory.
type testImage struct {
	blobs    map[digest.Digest][]byte
	manifest ocispec.Descriptor
	config   ocispec.Descriptor
	layers   []ocispec.Descriptor
}

func (ti *testImage) add(mediaType string, raw []byte) ocispec.Descriptor {
	d := describe(mediaType, raw)
	ti.blobs[d.Digest] = raw
	return d
}

// makeImage builds an image of plain layers, each stored as pack makes it.
func makeImage(t testing.TB, config dockerspec.DockerOCIImage, layers ...[]byte) *testImage {
	t.Helper()
	ti := &testImage{blobs: map[digest.Digest][]byte{}}
	if config.OS == "" {
		config.OS, config.Architecture = "linux", hostArch()
	}
	config.RootFS.Type = "layers"
	for i, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		mediaType, raw := ocispec.MediaTypeImageLayerGzip, []byte(nil)
		switch i % 3 {
		case 0:
			raw = gzipped(t, l)
		case 1:
			mediaType, raw = ocispec.MediaTypeImageLayerZstd, zstded(t, l)
		default:
			mediaType, raw = ocispec.MediaTypeImageLayer, l
		}
		ti.layers = append(ti.layers, ti.add(mediaType, raw))
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	ti.config = ti.add(ocispec.MediaTypeImageConfig, raw)
	raw, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ti.config, Layers: ti.layers,
	})
	if err != nil {
		t.Fatal(err)
	}
	ti.manifest = ti.add(ocispec.MediaTypeImageManifest, raw)
	return ti
}

func hostArch() string {
	p, _ := wanted(nil)
	return p.Architecture
}

// server is a registry with a place to break it.
type server struct {
	*httptest.Server
	host    string
	handler func(next http.Handler, w http.ResponseWriter, r *http.Request)
}

func newServer(t testing.TB) *server {
	t.Helper()
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.handler != nil {
			s.handler(inner, w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

// put uploads an image by plain requests.
func (s *server) put(t testing.TB, name string, ti *testImage) {
	t.Helper()
	repo, tag, _ := strings.Cut(name, ":")
	for d, raw := range ti.blobs {
		if d != ti.manifest.Digest {
			s.send(t, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), "application/octet-stream", raw)
		}
	}
	s.send(t, "PUT", "/v2/"+repo+"/manifests/"+tag, ti.manifest.MediaType, ti.blobs[ti.manifest.Digest])
}

func (s *server) send(t testing.TB, method, path, mediaType string, raw []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, s.URL+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", method, path, res.Status)
	}
}

// reportLog collects progress.
type reportLog struct {
	mu  sync.Mutex // guards all
	all []Progress
}

func (l *reportLog) add(p Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, p)
}

func (l *reportLog) statuses() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, p := range l.all {
		list = append(list, p.Status)
	}
	return list
}

func (f *fixture) pull(t *testing.T, ref string) (*Image, []string) {
	t.Helper()
	var log reportLog
	img, err := f.Pull(context.Background(), ref, PullOptions{Report: log.add})
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return img, log.statuses()
}

func standardImage(t testing.TB) *testImage {
	t.Helper()
	var config dockerspec.DockerOCIImage
	config.Config.Cmd = []string{"sh"}
	config.Config.Labels = map[string]string{"kind": "test"}
	return makeImage(t, config,
		plainLayer(t, map[string]string{"etc/one": "1"}),
		plainLayer(t, map[string]string{"etc/two": "2"}),
		plainLayer(t, map[string]string{"etc/three": "3"}))
}

func blobCount(t *testing.T, f *fixture) int {
	t.Helper()
	n := 0
	if err := f.content.Each(func(digest.Digest, int64) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}
