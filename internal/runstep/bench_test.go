package runstep

import (
	"context"
	"testing"

	"github.com/opencontainers/go-digest"
)

// BenchmarkTrue is a RUN that does nothing, and one that makes a file, each on top of the one before.
func BenchmarkTrue(b *testing.B) {
	for _, c := range []struct{ name, script string }{{"nothing", "true"}, {"file", "echo x >/f"}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			layers := []digest.Digest{w.base}
			b.ResetTimer()
			for range b.N {
				q := w.request(c.script)
				q.Mounts[0].Source.Layers = layers
				made, err := w.runner.Run(context.Background(), q)
				w.ok(err)
				if made[0].DiffID != "" && len(layers) < 30 {
					layers = append(layers, made[0].DiffID)
				}
			}
		})
	}
}
