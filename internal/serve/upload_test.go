package serve

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/servemsg"
)

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
