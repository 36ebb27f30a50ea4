package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/servemsg"
)

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
