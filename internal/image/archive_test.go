package image

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// damage changes a byte of a blob on the disk.
func damage(t *testing.T, f *fixture, d digest.Digest) {
	t.Helper()
	name := filepath.Join(f.content.Dir(), "blobs", d.Algorithm().String(), d.Encoded())
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) save(t *testing.T, refs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f.Save(context.Background(), refs, nil, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSaveLoad(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	srv.put(t, "app:1", standardImage(t))
	img, _ := f.pull(t, srv.host+"/app:1")
	ctx := context.Background()
	if err := f.Tag(ctx, srv.host+"/app:1", "mine:1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Tag(ctx, srv.host+"/app:1", "mine:2"); err != nil {
		t.Fatal(err)
	}
	raw := f.save(t, "mine:1", "mine:2")
	if again := f.save(t, "mine:1", "mine:2"); !bytes.Equal(raw, again) {
		t.Error("two archives of the same images differ")
	}
	for name, pack := range map[string]func(testing.TB, []byte) []byte{
		"plain": func(_ testing.TB, b []byte) []byte { return b }, "gzip": gzipped, "zstd": zstded,
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t)
			loaded, err := g.Load(ctx, bytes.NewReader(pack(t, raw)), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(loaded) == 0 || loaded[0].ID != img.ID || loaded[0].Manifest.Digest != img.Manifest.Digest {
				t.Fatalf("loaded %+v", loaded)
			}
			got, err := g.Get(ctx, "mine:2")
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"docker.io/library/mine:1", "docker.io/library/mine:2"}; !slices.Equal(got.Names, want) {
				t.Errorf("names %v", got.Names)
			}
			for _, l := range got.Layers {
				if !g.layers.Has(l) {
					t.Errorf("layer %s is not unpacked", l)
				}
			}
			if again, err := g.Load(ctx, bytes.NewReader(raw), nil, nil); err != nil || again[0].ID != img.ID {
				t.Errorf("loaded again: %v", err)
			}
		})
	}
}

func TestOtherToolsReadTheStore(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	srv.put(t, "app:1", standardImage(t))
	img, _ := f.pull(t, srv.host+"/app:1")
	if err := f.Tag(context.Background(), srv.host+"/app:1", "mine:1"); err != nil {
		t.Fatal(err)
	}
	archived := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(archived, f.save(t, "mine:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		tool string
		args []string
	}{
		{"skopeo", []string{"inspect", "--config", "--raw", "oci:" + f.content.Dir() + ":docker.io/library/mine:1"}},
		{"umoci", []string{"stat", "--image", f.content.Dir() + ":docker.io/library/mine:1"}},
		{"skopeo", []string{"inspect", "--config", "--raw", "docker-archive:" + archived + ":mine:1"}},
		{"skopeo", []string{"inspect", "--config", "--raw", "oci-archive:" + archived}},
	} {
		t.Run(tc.tool+" "+strings.Join(tc.args[:2], " "), func(t *testing.T) {
			path, err := exec.LookPath(tc.tool)
			if err != nil {
				t.Skip(tc.tool + " is not installed")
			}
			var stderr bytes.Buffer
			cmd := exec.Command(path, tc.args...)
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, &stderr)
			}
			if tc.tool == "skopeo" && digest.FromBytes(bytes.TrimSuffix(out, []byte("\n"))) != img.ID {
				t.Errorf("read another configuration: %s", out)
			}
		})
	}
}
