package move

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/movemsg"
)

func TestVolume(t *testing.T) {
	a, b := newMover(t), newMover(t)
	v, _, err := a.Volumes.Ensure(t.Context(), "data", "", map[string]string{"k": "v"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(v.Mountpoint, "big")
	write := func(path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(big, noise(5, 5<<20))
	req := movemsg.Request{Kind: movemsg.Volume, Name: "data"}
	if o := between(t, a, b, req, 2<<20); o.failure == nil {
		t.Fatal("arrived over a cut connection")
	}
	if _, err := b.Volumes.Inspect(t.Context(), "data"); !errdefs.IsNotFound(err) {
		t.Fatalf("half a volume is seen: %v", err)
	}
	o := between(t, a, b, req, -1)
	if o.result == nil || o.result.Sent > 4<<20 {
		t.Fatalf("%+v, %+v", o.result, o.failure)
	}
	w, err := b.Volumes.Inspect(t.Context(), "data")
	if err != nil || w.Labels["k"] != "v" {
		t.Fatalf("%+v, %v", w, err)
	}
	write(filepath.Join(v.Mountpoint, "more"), []byte("more"))
	if o = between(t, a, b, req, -1); o.failure == nil || o.failure.Code != "volume-name-taken" {
		t.Errorf("%+v", o)
	}
	req.Replace = true
	if o = between(t, a, b, req, -1); o.result == nil || o.result.Sent > 100<<10 {
		t.Errorf("%+v %+v", o.result, o.failure)
	}
	for _, name := range []string{"big", "more"} {
		want, _ := os.ReadFile(filepath.Join(v.Mountpoint, name))
		if got, err := os.ReadFile(filepath.Join(w.Mountpoint, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, _ := os.ReadDir(filepath.Dir(filepath.Dir(w.Mountpoint))); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}
