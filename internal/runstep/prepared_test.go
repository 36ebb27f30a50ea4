package runstep

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/layer"
)

// A root filesystem that somebody else has prepared is used as it is, and stays, with what the command has changed.
func TestPreparedRoot(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	o, err := w.config.Layers.Prepare(ctx, "mine", []digest.Digest{w.base}, layer.PrepareOptions{Volatile: true})
	w.ok(err)
	w.ok(os.WriteFile(filepath.Join(o.Upper, "before"), []byte("put there\n"), 0o644))
	q := w.request("cat /before; echo made >/after; id -u app")
	q.Mounts[0].Source = Source{}
	q.Mounts[0].Prepared = "mine"
	q.Mounts[0].Output = -1
	if made := w.want(q, "put there\n1000\n"); len(made) != 0 {
		t.Errorf("layers were made: %+v", made)
	}
	if raw, err := os.ReadFile(filepath.Join(o.Upper, "after")); string(raw) != "made\n" {
		t.Errorf("%q %v", raw, err)
	}
	q = w.request("exit 3")
	q.Mounts[0].Source, q.Mounts[0].Prepared, q.Mounts[0].Output = Source{}, "mine", -1
	if _, _, err := w.run(q); err == nil {
		t.Error("the command has not failed")
	}
	if ids, err := w.config.Layers.Prepared(); err != nil || len(ids) != 1 || ids[0] != "mine" {
		t.Error(ids, err)
	}
	w.ok(w.config.Layers.Remove(ctx, "mine"))
	w.leftovers()
}
