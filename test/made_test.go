package test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// noise is layers of bytes that do not compress, with one file each.
func noise(layers, size int) [][]byte {
	list := make([][]byte, layers)
	for i := range list {
		content := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(i), byte(size)}).Read(content)
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Name: "noise" + strconv.Itoa(i), Mode: 0o644, Size: int64(size)})
		_, _ = w.Write(content)
		_ = w.Close()
		list[i] = b.Bytes()
	}
	return list
}

// push puts an image of plain layers into the store, and returns the layers' descriptors.
func (s *store) push(t *testing.T, repository, tag string, layers [][]byte) []ocispec.Descriptor {
	t.Helper()
	ids := make([]digest.Digest, len(layers))
	for i, raw := range layers {
		ids[i] = digest.FromBytes(raw)
	}
	return s.pushAs(t, repository, tag, layers, ids)
}

// pushAs is push with a configuration that may lie about the layers.
func (s *store) pushAs(t *testing.T, repository, tag string, layers [][]byte, ids []digest.Digest) []ocispec.Descriptor {
	t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config.RootFS.Type = "layers"
	for _, raw := range layers {
		m.Layers = append(m.Layers, s.put(t, repository, ocispec.MediaTypeImageLayer, raw))
	}
	config.RootFS.DiffIDs = ids
	m.Config = s.put(t, repository, ocispec.MediaTypeImageConfig, asJSON(t, config))
	s.send(t, "/v2/"+repository+"/manifests/"+tag, http.MethodPut, m.MediaType, asJSON(t, m))
	return m.Layers
}

// put stores a blob.
func (s *store) put(t *testing.T, repository, mediaType string, raw []byte) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	s.send(t, "/v2/"+repository+"/blobs/uploads/?digest="+d.Digest.String(), http.MethodPost, "application/octet-stream", raw)
	return d
}

// send asks the store itself, past what spoils its answers.
func (s *store) send(t *testing.T, path, method, contentType string, raw []byte) {
	t.Helper()
	r := httptest.NewRequest(method, path, io.NopCloser(bytes.NewReader(raw)))
	r.ContentLength = int64(len(raw))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	if w.Code/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
