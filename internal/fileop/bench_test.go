package fileop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/treesum"
)

// BenchmarkCopy copies 20,000 files of 4 KiB from a context into a layer.
func BenchmarkCopy(b *testing.B) {
	dir := b.TempDir()
	data := make([]byte, 4<<10)
	for i := range 200 {
		d := filepath.Join(dir, fmt.Sprintf("dir%03d", i))
		if err := os.Mkdir(d, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 100 {
			copy(data, fmt.Sprint(i, j))
			if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("file%03d", j)), data, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	layers, err := layer.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer layers.Close()
	trees, err := treesum.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	ops := New(layers, trees)
	for b.Loop() {
		l := &Local{Dir: dir}
		hold := layers.Hold()
		start := time.Now()
		if _, err := ops.SelectDigest(b.Context(), treesum.Selection{Path: "/"}, Source{Local: l}); err != nil {
			b.Fatal(err)
		}
		summed := time.Since(start)
		if _, err := ops.Run(b.Context(), copyOp(dockerfile("/", "/app/")), []Source{{}, {Local: l}}, hold); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(summed.Milliseconds()), "ms-digest")
		hold.Release()
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := layers.Collect(b.Context(), func(digest.Digest) bool { return false }); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
