package treesum

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/sys"
)

func BenchmarkUnchanged(b *testing.B) {
	dir := b.TempDir()
	data := make([]byte, 20<<10)
	for i := range 500 {
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
	time.Sleep(100 * time.Millisecond)
	c, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	scan := func() {
		root, err := sys.OpenRoot(dir)
		if err != nil {
			b.Fatal(err)
		}
		defer root.Close()
		t, err := c.Scan(b.Context(), root, "k", Filter{Exclude: []string{"**/node_modules", "*.md", "dist", "**/*.tmp"}})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := t.Digest(b.Context(), Selection{Path: "/"}); err != nil {
			b.Fatal(err)
		}
		if err := t.Close(); err != nil {
			b.Fatal(err)
		}
	}
	start := time.Now()
	scan()
	b.Log("first:", time.Since(start))
	b.ReportAllocs()
	for b.Loop() {
		scan()
	}
}
