package keeper

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistdev/kist/internal/task"
)

// BenchmarkRoundTrip is what a request costs that does nothing.
func BenchmarkRoundTrip(b *testing.B) {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	c, err := task.Open(ctx, task.Config{Dir: filepath.Join(b.TempDir(), "keeper"), Command: []string{exe}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		if err := c.Delete(ctx, "nothing"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStartKeeper is what the first command pays for its keeper.
func BenchmarkStartKeeper(b *testing.B) {
	b.Setenv("KIST_TEST_RUNNER", "real")
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, err := task.Open(context.Background(), task.Config{Dir: filepath.Join(b.TempDir(), "keeper"), Command: []string{exe}})
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
