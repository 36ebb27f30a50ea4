package image

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/testbed"
)

// BenchmarkLoad loads the large image of the test bed, once made (make images).
func BenchmarkLoad(b *testing.B) {
	name := filepath.Join(testbed.Images(), "science.tar")
	for b.Loop() {
		f, err := os.Open(name)
		if err != nil {
			b.Skip("the image science has not been made")
		}
		dir, err := os.MkdirTemp("/var/tmp", "image-bench-") // on a disk
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
		s := openFixture(b, dir)
		if _, err := s.Load(context.Background(), f, nil, nil); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		b.ReportMetric(float64(r.Maxrss)/1024, "MB-peak")
	}
}

// BenchmarkGet is what every run does first.
func BenchmarkGet(b *testing.B) {
	f := openFixture(b, b.TempDir())
	srv := newServer(b)
	srv.put(b, "app:1", standardImage(b))
	ref := srv.host + "/app:1"
	if _, err := f.Pull(context.Background(), ref, PullOptions{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.Get(context.Background(), ref); err != nil {
			b.Fatal(err)
		}
	}
}
