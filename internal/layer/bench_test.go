package layer

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"os"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

// BenchmarkPrepare makes and removes the writable layer of a container with 10 layers.
func BenchmarkPrepare(b *testing.B) {
	s, layers := benchStore(b)
	for i := range 10 {
		var buf bytes.Buffer
		benchTar(&buf, 1, i)
		id, err := s.Ingest(b.Context(), &buf)
		if err != nil {
			b.Fatal(err)
		}
		layers = append(layers, id)
	}
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("c%d", i)
		if _, err := s.Prepare(b.Context(), id, layers, PrepareOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := s.Remove(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnpack unpacks a gzipped layer of 2,000 files.
func BenchmarkUnpack(b *testing.B) {
	s, _ := benchStore(b)
	var plain, packed bytes.Buffer
	benchTar(&plain, 2000, 0)
	w := gzip.NewWriter(&packed)
	io.Copy(w, bytes.NewReader(plain.Bytes()))
	w.Close()
	id := digest.FromBytes(plain.Bytes())
	b.SetBytes(int64(plain.Len()))
	for b.Loop() {
		if err := s.Unpack(b.Context(), id, gzipLayer, bytes.NewReader(packed.Bytes())); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Collect(b.Context(), func(digest.Digest) bool { return false }); err != nil {
			b.Fatal(err)
		}
	}
}

func benchStore(b *testing.B) (*Store, []digest.Digest) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s, nil
}

// benchTar writes a layer of n files of some kilobytes, different for each seed.
func benchTar(w io.Writer, n, seed int) {
	rnd := rand.New(rand.NewSource(int64(seed)))
	body := make([]byte, 16<<10)
	for i := range body {
		body[i] = byte(rnd.ExpFloat64() * 16)
	}
	writeTar(w, func(add func(file)) {
		for i := range n {
			add(file{name: fmt.Sprintf("dir%d/sub%d/file%d", seed, i/50, i), body: string(body[:1+rnd.Intn(len(body)-1)])})
		}
	})
}
