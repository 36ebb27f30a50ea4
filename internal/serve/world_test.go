package serve

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	ggcr "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/servemsg"
	"github.com/kistdev/kist/internal/testbed/suite"
)

func TestMain(m *testing.M) {
	suite.InMemory(m, func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		remote.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
}

// bench is a registry in front of a store.
type bench struct {
	*Server
	store  *image.Store
	dir    string
	mu     sync.Mutex // guards events
	events []string
}

func newBench(t *testing.T, o servemsg.Request) *bench {
	t.Helper()
	dir := t.TempDir()
	layers, err := layer.Open(filepath.Join(dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { layers.Close() })
	b := &bench{dir: dir}
	if b.store, err = image.Open(image.Options{Dir: filepath.Join(dir, "content"), Layers: layers}); err != nil {
		t.Fatal(err)
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	b.Server, err = Listen(b.store, Options{Request: o, Report: func(e servemsg.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e.Action+" "+e.Name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) happened(what string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.events, what)
}

func (b *bench) ref(t *testing.T, s string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(b.Address()+"/"+s, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bench) do(t *testing.T, method, path string, header map[string]string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+b.Address()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(raw)
}

func (b *bench) state() (bool, error) {
	resp, err := http.Get("http://" + b.Address() + "/v2/other/referrers/" + digest.FromString("x").String())
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	return resp.StatusCode == 200 && resp.Header.Get("Content-Type") == ocispec.MediaTypeImageIndex, nil
}

// hostImage is a random image for this host.
func hostImage(t *testing.T, layers int64) ggcr.Image {
	t.Helper()
	img, err := random.Image(2000, layers)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

func emptyIndex(t *testing.T) ggcr.ImageIndex {
	t.Helper()
	index, err := random.Index(1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return index
}
