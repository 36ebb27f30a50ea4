package serve

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	oremote "oras.land/oras-go/v2/registry/remote"

	ggcr "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/servemsg"
)

func TestMain(m *testing.M) {
	if dir, err := os.MkdirTemp("/dev/shm", "serve-test-"); err == nil {
		os.Setenv("TMPDIR", dir)
		defer os.RemoveAll(dir)
	}
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	remote.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.RemoveAll(os.Getenv("TMPDIR"))
	os.Exit(code) //nolint:gocritic // the directory has been removed
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

func TestPushedImageIsALocalOneAndComesBack(t *testing.T) {
	b := newBench(t, servemsg.Request{})
	img := hostImage(t, 3)
	ref := b.ref(t, "team/app:1")
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	id, _ := img.ConfigName()
	local, err := b.store.Get(context.Background(), "team/app:1")
	if err != nil || local.ID.String() != id.String() {
		t.Fatalf("%v, %v", local, err)
	}
	d, _ := img.Digest()
	for _, r := range []name.Reference{ref, b.ref(t, "team/app@"+d.String())} {
		back, err := remote.Image(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := back.Digest(); got != d {
			t.Errorf("%s: %s, want %s", r, got, d)
		}
		ls, _ := back.Layers()
		for _, l := range ls {
			rc, err := l.Uncompressed() // Verifies.
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, rc); err != nil {
				t.Error(err)
			}
			rc.Close()
		}
	}
	if !b.happened("push team/app:1") || !b.happened("pull team/app:1") {
		t.Errorf("%q", b.events)
	}
	if _, err := remote.Image(b.ref(t, "team/app:2")); err == nil || !strings.Contains(err.Error(), "MANIFEST_UNKNOWN") {
		t.Error(err)
	}
}

func TestListsInPages(t *testing.T) {
	b := newBench(t, servemsg.Request{})
	img := hostImage(t, 1)
	for _, r := range []string{"a:1", "a:2", "a:3", "example.org/b:1", "c/d:1"} {
		if err := remote.Write(b.ref(t, r), img); err != nil {
			t.Fatal(err)
		}
	}
	reg, _ := name.NewRegistry(b.Address(), name.Insecure)
	list, err := remote.Catalog(context.Background(), reg)
	if want := []string{"a", "c/d", "example.org/b"}; err != nil || !slices.Equal(list, want) {
		t.Errorf("%q, %v", list, err)
	}
	repo, _ := name.NewRepository(b.Address()+"/a", name.Insecure)
	tags, err := remote.List(repo, remote.WithPageSize(2))
	if err != nil || !slices.Equal(tags, []string{"1", "2", "3"}) {
		t.Errorf("%q, %v", tags, err)
	}
	for path, want := range map[string]string{
		"/v2/a/tags/list?n=2": `"tags":["1","2"]`, "/v2/a/tags/list?n=2&last=2": `"tags":["3"]`, "/v2/a/tags/list?n=0": `"tags":[]`,
		"/v2/a/tags/list?last=9": `"tags":[]`, "/v2/_catalog?n=1": `"repositories":["a"]`, "/v2/nope/tags/list": "NAME_UNKNOWN",
		"/v2/a/tags/list?n=x": "PAGINATION_NUMBER_INVALID",
	} {
		if _, body := b.do(t, "GET", path, nil, nil); !strings.Contains(body, want) {
			t.Errorf("%s: %s", path, body)
		}
	}
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

func TestUploadsInPieces(t *testing.T) {
	b := newBench(t, servemsg.Request{})
	data := bytes.Repeat([]byte("0123456789"), 1000)
	d := digest.FromBytes(data)
	resp, _ := b.do(t, "POST", "/v2/x/blobs/uploads/", nil, nil)
	at := resp.Header.Get("Location")
	if resp.StatusCode != 202 || at == "" {
		t.Fatal(resp.Status)
	}
	step := func(method, path, span string, body []byte, status int, standing string) {
		t.Helper()
		h := map[string]string{"Content-Type": "application/octet-stream"}
		if span != "" {
			h["Content-Range"] = span
		}
		resp, text := b.do(t, method, path, h, bytes.NewReader(body))
		if resp.StatusCode != status || standing != "" && resp.Header.Get("Range") != standing {
			t.Fatalf("%s %s: %s, range %q: %s", method, span, resp.Status, resp.Header.Get("Range"), text)
		}
	}
	step("PATCH", at, "0-2999", data[:3000], 202, "0-2999")
	step("PATCH", at, "0-2999", data[:3000], 416, "0-2999")
	step("PATCH", at, "4000-4999", data[4000:5000], 416, "0-2999")
	step("PATCH", at, "nonsense", data[4000:5000], 400, "")
	step("GET", at, "", nil, 204, "0-2999")
	step("PATCH", strings.Replace(at, "/x/", "/y/", 1), "", nil, 404, "")
	step("PATCH", at, "3000-5999", data[3000:6000], 202, "0-5999")
	step("PUT", at+"?digest=sha256:no", "", data[6000:], 400, "")
	step("PUT", at+"?digest="+d.String(), "6000-9999", data[6000:], 201, "")
	step("GET", at, "", nil, 404, "")
	resp, text := b.do(t, "GET", "/v2/x/blobs/"+d.String(), map[string]string{"Range": "bytes=9990-"}, nil)
	if resp.StatusCode != 206 || text != "0123456789" {
		t.Errorf("%s %q", resp.Status, text)
	}
	// Whole in one request, under another algorithm's digest, with a wrong one, taken from another repository, given up.
	long := digest.SHA512.FromBytes(data)
	step("POST", "/v2/x/blobs/uploads/?digest="+long.String(), "", data, 201, "")
	if resp, _ := b.do(t, "HEAD", "/v2/x/blobs/"+long.String(), nil, nil); resp.StatusCode != 200 || resp.ContentLength != 10000 {
		t.Error(resp.Status)
	}
	step("POST", "/v2/x/blobs/uploads/?digest="+d.String(), "", data[1:], 400, "")
	step("POST", "/v2/z/blobs/uploads/?mount="+d.String()+"&from=x", "", nil, 201, "")
	step("POST", "/v2/z/blobs/uploads/?mount="+digest.FromString("no").String()+"&from=x", "", nil, 202, "")
	resp, _ = b.do(t, "POST", "/v2/x/blobs/uploads/", nil, nil)
	step("DELETE", resp.Header.Get("Location"), "", nil, 204, "")
	step("PUT", resp.Header.Get("Location")+"?digest="+d.String(), "", nil, 404, "")
}

func TestIndexesArtifactsAndReferrers(t *testing.T) {
	b := newBench(t, servemsg.Request{})
	ctx := context.Background()
	native, foreign := hostImage(t, 2), hostImage(t, 2)
	index := mutate.AppendManifests(mutate.IndexMediaType(emptyIndex(t), "application/vnd.oci.image.index.v1+json"),
		mutate.IndexAddendum{Add: native, Descriptor: ggcr.Descriptor{Platform: &ggcr.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: foreign, Descriptor: ggcr.Descriptor{Platform: &ggcr.Platform{OS: "linux", Architecture: "s390x"}}})
	if err := remote.WriteIndex(b.ref(t, "multi:1"), index); err != nil {
		t.Fatal(err)
	}
	want, _ := index.Digest()
	fd, _ := foreign.Digest()
	back, err := remote.Index(b.ref(t, "multi:1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := back.Digest(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := remote.Image(b.ref(t, "multi@"+fd.String())); err != nil {
		t.Errorf("the other platform's image: %v", err)
	}
	id, _ := native.ConfigName()
	if local, err := b.store.Get(ctx, "multi:1"); err != nil || local.ID.String() != id.String() {
		t.Errorf("%v, %v", local, err)
	}
	// What the name stands for here is what the registry gives, whoever changed it.
	if err := remote.Write(b.ref(t, "other:1"), hostImage(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Tag(ctx, "other:1", "multi:1"); err != nil {
		t.Fatal(err)
	}
	if d, err := remote.Head(b.ref(t, "multi:1")); err != nil || d.Digest == want {
		t.Errorf("%v, %v", d, err)
	}
	b.artifacts(t)
}

func emptyIndex(t *testing.T) ggcr.ImageIndex {
	t.Helper()
	index, err := random.Index(1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// artifacts pushes a signature for an image with oras, and an artifact with a tag.
func (b *bench) artifacts(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	repo, err := oremote.NewRepository(b.Address() + "/other")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	subject, err := repo.Resolve(ctx, "1")
	if err != nil {
		t.Fatal(err)
	}
	src := memory.New()
	about, err := oras.PackManifest(ctx, src, oras.PackManifestVersion1_1, "application/vnd.example.signature", oras.PackManifestOptions{
		Subject: &subject, ManifestAnnotations: map[string]string{"by": "me"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if rc, err := src.Fetch(ctx, about); err != nil {
		t.Fatal(err)
	} else if err := repo.Push(ctx, about, rc); err == nil {
		t.Error("a manifest was taken whose blobs are not there")
	}
	if err := src.Tag(ctx, about, "sig"); err != nil {
		t.Fatal(err)
	}
	if err := repo.Push(ctx, ocispec.DescriptorEmptyJSON, strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	rc, err := src.Fetch(ctx, about)
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Push(ctx, about, rc); err != nil {
		t.Fatal(err)
	}
	var found []ocispec.Descriptor
	if err := repo.Referrers(ctx, subject, "application/vnd.example.signature", func(list []ocispec.Descriptor) error {
		found = append(found, list...)
		return nil
	}); err != nil || len(found) != 1 || found[0].Digest != about.Digest || found[0].Annotations["by"] != "me" {
		t.Errorf("%v, %v", found, err)
	}
	if state, err := b.state(); err != nil || !state {
		t.Errorf("referrers are not served by the API: %v", err)
	}
	if _, err := b.store.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	if rc, err := repo.Fetch(ctx, about); err != nil {
		t.Errorf("collected: %v", err)
	} else {
		rc.Close()
	}
	if err := repo.Delete(ctx, about); err != nil {
		t.Error(err)
	}
	if _, err := repo.Resolve(ctx, about.Digest.String()); err == nil {
		t.Error("deleted, and there")
	}
}

func (b *bench) state() (bool, error) {
	resp, err := http.Get("http://" + b.Address() + "/v2/other/referrers/" + digest.FromString("x").String())
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	return resp.StatusCode == 200 && resp.Header.Get("Content-Type") == ocispec.MediaTypeImageIndex, nil
}

func TestRefusals(t *testing.T) {
	b := newBench(t, servemsg.Request{})
	d := digest.FromString("x").String()
	for _, tt := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/", "", 404, "UNSUPPORTED"},
		{"GET", "/v2", "", 200, "{}"},
		{"GET", "/v1/search", "", 404, "UNSUPPORTED"},
		{"GET", "/v2/a/manifests/../../../../etc/passwd", "", 404, ""},
		{"GET", "/v2/a/manifests/%2e%2e%2fpasswd", "", 404, ""},
		{"GET", "/v2/UPPER/manifests/1", "", 400, "invalid"},
		{"GET", "/v2/a/manifests/" + strings.Repeat("x", 5000), "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/a/blobs/sha256:short", "", 400, "DIGEST_INVALID"},
		{"GET", "/v2/a/blobs/" + d, "", 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "", 400, "DIGEST_INVALID"},
		{"DELETE", "/v2/a/blobs/" + d, "", 405, "UNSUPPORTED"},
		{"POST", "/v2/a/manifests/1", "", 405, "UNSUPPORTED"},
		{"PUT", "/v2/a/manifests/1", "nonsense", 400, "MANIFEST_INVALID"},
		{"PUT", "/v2/a/manifests/1", `{"schemaVersion":2}`, 400, "MANIFEST_INVALID"},
		{"PUT", "/v2/a/manifests/1", `{"schemaVersion":1,"name":"a"}`, 400, "schema 1"},
		{"PUT", "/v2/a/manifests/" + d, `{"schemaVersion":2}`, 400, "has the digest"},
		{"PUT", "/v2/a/manifests/" + strings.Repeat("x", 200), `{"schemaVersion":2}`, 400, "tag"},
		{"PUT", "/v2/a/manifests/1", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"../../x"}}`, 400, ""},
		{"PUT", "/v2/a/manifests/1", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"x","digest":"` + d + `","size":1},"layers":[]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		{"PUT", "/v2/a/manifests/1", strings.Repeat(" ", maxManifest+1), 413, "too large"},
		{"DELETE", "/v2/a/manifests/1", "", 404, "MANIFEST_UNKNOWN"},
		{"POST", "/v2/../x/blobs/uploads/", "", 400, "NAME_INVALID"},
		{"POST", "/v2/A/blobs/uploads/", "", 400, "NAME_INVALID"},
		{"PATCH", "/v2/a/blobs/uploads/nope", "x", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"GET", "/v2/a/referrers/nope", "", 400, "DIGEST_INVALID"},
	} {
		var body io.Reader
		if tt.body != "" {
			body = strings.NewReader(tt.body)
		}
		resp, text := b.do(t, tt.method, tt.path, map[string]string{"Content-Type": ""}, body)
		if resp.StatusCode != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%s %.60s: %s %.200s", tt.method, tt.path, resp.Status, text)
		}
	}
	if list := b.shelf.Repositories(); len(list) != 0 {
		t.Errorf("%q", list)
	}
}

func TestUploadsAreBounded(t *testing.T) {
	b := newBench(t, servemsg.Request{})
	for range maxUploads {
		if resp, _ := b.do(t, "POST", "/v2/a/blobs/uploads/", nil, nil); resp.StatusCode != 202 {
			t.Fatal(resp.Status)
		}
	}
	if resp, _ := b.do(t, "POST", "/v2/a/blobs/uploads/", nil, nil); resp.StatusCode != 429 {
		t.Error(resp.Status)
	}
	b.uploads.closeAll()
	if left, err := os.ReadDir(filepath.Join(b.dir, "content", "ingest")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestPasswords(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, servemsg.Request{Htpasswd: []byte("# people\nanna:" + string(hash) + "\n")})
	img := hostImage(t, 1)
	if err := remote.Write(b.ref(t, "a:1"), img); err == nil {
		t.Error("pushed without a password")
	}
	for password, ok := range map[string]bool{"secret": true, "wrong": false, "": false} {
		err := remote.Write(b.ref(t, "a:1"), img, remote.WithAuth(&authn.Basic{Username: "anna", Password: password}))
		if (err == nil) != ok {
			t.Errorf("%q: %v", password, err)
		}
	}
	if err := remote.Write(b.ref(t, "a:1"), img, remote.WithAuth(&authn.Basic{Username: "nobody", Password: "secret"})); err == nil {
		t.Error("a name that is not in the file")
	}
	for _, bad := range []string{"x", "a:b", "#\n", "a:$apr1$x"} {
		if _, err := parseUsers([]byte(bad)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestReadOnlyAndOpenDoors(t *testing.T) {
	b := newBench(t, servemsg.Request{ReadOnly: true})
	if err := remote.Write(b.ref(t, "a:1"), hostImage(t, 1)); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Error(err)
	}
	for addr, ok := range map[string]bool{"0.0.0.0:0": false, ":0": false, "127.0.0.1:0": true, "[::1]:0": true, "localhost:0": true, "nonsense": false} {
		s := &Server{o: Options{Request: servemsg.Request{Address: addr}}}
		if err := s.check(); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
	s := &Server{o: Options{Request: servemsg.Request{Address: ":0", Open: true}}}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

func TestByteRange(t *testing.T) {
	for field, want := range map[string]string{
		"": "0 10 false", "bytes=0-": "0 10 true", "bytes=3-": "3 10 true", "bytes=3-4": "3 5 true", "bytes=3-99": "3 10 true", "bytes=9-9": "9 10 true",
		"bytes=10-": "none", "bytes=-3": "0 10 false", "bytes=1-2,4-5": "0 10 false", "bytes=5-3": "0 10 false", "lines=1-": "0 10 false",
		"bytes=99999999999999999999-": "0 10 false",
	} {
		from, to, part, err := byteRange(field, 10)
		got := fmt.Sprint(from, " ", to, " ", part)
		if errors.Is(err, errRange) {
			got = "none"
		}
		if strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("%q: %s, want %s", field, got, want)
		}
	}
}

func TestTLS(t *testing.T) {
	cert, key := selfSigned(t)
	b := newBench(t, servemsg.Request{Cert: cert, Key: key})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + b.Address() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || !b.TLS() {
		t.Error(resp.Status)
	}
	if _, err := Listen(b.store, Options{Request: servemsg.Request{Address: "127.0.0.1:0", Cert: cert}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a certificate without its key: %v", err)
	}
	if _, err := Listen(b.store, Options{Request: servemsg.Request{Address: b.Address()}}); !errdefs.IsConflict(err) {
		t.Errorf("an address that is taken: %v", err)
	}
}

func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
