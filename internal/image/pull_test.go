package image

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

func TestPull(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	ti := standardImage(t)
	srv.put(t, "app:1", ti)
	ref := srv.host + "/app:1"
	img, said := f.pull(t, ref)
	if img.ID != ti.config.Digest || img.Manifest.Digest != ti.manifest.Digest || len(img.Layers) != 3 {
		t.Errorf("got %+v", img)
	}
	if want := []string{ref, srv.host + "/app@" + ti.manifest.Digest.String()}; !slices.Equal(img.Names, want) {
		t.Errorf("names %v, want %v", img.Names, want)
	}
	for _, want := range []string{
		"Pulling from app", "Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete",
		"Digest: " + ti.manifest.Digest.String(), "Status: Downloaded newer image for " + ref,
	} {
		if !slices.Contains(said, want) {
			t.Errorf("%q was not said: %q", want, said)
		}
	}
	for _, l := range img.Layers {
		if !f.layers.Has(l) {
			t.Errorf("layer %s is not unpacked", l)
		}
	}
	_, said = f.pull(t, ref)
	if !slices.Contains(said, "Status: Image is up to date for "+ref) {
		t.Errorf("second pull said %q", said)
	}
}

func TestPullTakesPartsThatAreHere(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	base := plainLayer(t, map[string]string{"base": "b"})
	srv.put(t, "a:1", makeImage(t, dockerspec.DockerOCIImage{}, base))
	srv.put(t, "b:1", makeImage(t, dockerspec.DockerOCIImage{}, base, plainLayer(t, map[string]string{"more": "m"})))
	f.pull(t, srv.host+"/a:1")
	if _, said := f.pull(t, srv.host+"/b:1"); !slices.Contains(said, "Already exists") {
		t.Errorf("said %q", said)
	}
}

func index(t *testing.T, platforms map[string]*testImage) []byte {
	t.Helper()
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for name, ti := range platforms {
		os, arch, _ := strings.Cut(name, "/")
		d := ti.manifest
		d.Platform = &ocispec.Platform{OS: os, Architecture: arch}
		idx.Manifests = append(idx.Manifests, d)
	}
	raw, err := json.Marshal(idx)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestPullChoosesPlatform(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	images := map[string]*testImage{}
	for _, arch := range []string{"amd64", "arm64", "s390x"} {
		var config dockerspec.DockerOCIImage
		config.OS, config.Architecture = "linux", arch
		ti := makeImage(t, config, plainLayer(t, map[string]string{"arch": arch}))
		srv.put(t, "multi:"+arch, ti)
		images["linux/"+arch] = ti
	}
	raw := index(t, images)
	srv.send(t, "PUT", "/v2/multi/manifests/all", ocispec.MediaTypeImageIndex, raw)
	img, said := f.pull(t, srv.host+"/multi:all")
	if img.ID != images["linux/"+hostArch()].config.Digest {
		t.Errorf("pulled another platform's image")
	}
	if !slices.Contains(said, "Digest: "+digest.FromBytes(raw).String()) {
		t.Errorf("the digest is not the index's: %q", said)
	}
	img, err := f.Pull(context.Background(), srv.host+"/multi:all", PullOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	if err != nil || img.ID != images["linux/s390x"].config.Digest {
		t.Errorf("s390x: %v, %v", img, err)
	}
	_, err = f.Pull(context.Background(), srv.host+"/multi:all", PullOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "mips64"}})
	if err == nil || !strings.Contains(err.Error(), "no matching manifest for linux/mips64 in the manifest list entries: available: linux/amd64, linux/arm64, linux/s390x") {
		t.Errorf("mips64: %v", err)
	}
	_, err = f.Pull(context.Background(), srv.host+"/multi:amd64", PullOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "riscv64"}})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "wanted linux/riscv64, actual: linux/amd64") {
		t.Errorf("one manifest of another platform: %v", err)
	}
}

func TestPullRefuses(t *testing.T) {
	good := standardImage(t)
	srv, f := newServer(t), newFixture(t)
	srv.put(t, "app:1", good)
	for _, tc := range []struct {
		name, ref, code string
		class           error
		spoil           func(next http.Handler, w http.ResponseWriter, r *http.Request)
	}{
		{name: "no repository", ref: "/nope:1", code: "repository-not-found", class: errdefs.ErrNotFound},
		{name: "no tag", ref: "/app:nope", code: "tag-not-found", class: errdefs.ErrNotFound},
		{
			name: "a layer's bytes are others", ref: "/app:1", code: "blob-corrupt", class: errdefs.ErrDataLoss,
			spoil: func(next http.Handler, w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, good.layers[1].Digest.String()) {
					raw := slices.Clone(good.blobs[good.layers[1].Digest])
					raw[len(raw)-5] ^= 1
					w.Write(raw)
					return
				}
				next.ServeHTTP(w, r)
			},
		},
		{
			name: "schema 1", ref: "/app:1", code: "manifest-schema1", class: errdefs.ErrNotImplemented,
			spoil: func(next http.Handler, w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/manifests/") {
					w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
					w.Write([]byte(`{"schemaVersion":1,"name":"app","tag":"1"}`))
					return
				}
				next.ServeHTTP(w, r)
			},
		},
		{
			name: "no image", ref: "/app:1", code: "not-an-image", class: errdefs.ErrInvalidArgument,
			spoil: func(next http.Handler, w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/manifests/") {
					w.Header().Set("Content-Type", "text/html")
					w.Write([]byte(`<html>`))
					return
				}
				next.ServeHTTP(w, r)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv.handler = tc.spoil
			defer func() { srv.handler = nil }()
			_, err := f.Pull(context.Background(), srv.host+tc.ref, PullOptions{})
			known, ok := fault.As(err)
			if !ok || known.Code != tc.code || !errors.Is(err, tc.class) {
				t.Errorf("got %v (%+v), want %s", err, known, tc.code)
			}
			if _, err := f.Get(context.Background(), srv.host+tc.ref); !errdefs.IsNotFound(err) {
				t.Errorf("the failed pull left a name: %v", err)
			}
		})
	}
}

// TestPullGoesOn kills a pull in the middle of a big layer, opens the store anew as a new process would, and counts what
// the second pull fetches.
func TestPullGoesOn(t *testing.T) {
	const size = 4 << 20
	srv, dir := newServer(t), t.TempDir()
	ti := makeImage(t, dockerspec.DockerOCIImage{},
		plainLayer(t, map[string]string{"big": noise(t, size)}), plainLayer(t, map[string]string{"small": "s"}))
	srv.put(t, "big:1", ti)
	big := ti.layers[0].Digest
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	srv.handler = func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, big.String()) {
			next.ServeHTTP(w, r)
			return
		}
		raw := ti.blobs[big]
		w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
		w.Write(raw[:size*9/10])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	f := openFixture(t, dir)
	go func() {
		for {
			if n, err := f.content.Partial(); err == nil && n >= size*9/10 || ctx.Err() != nil {
				cancel()
				return
			}
		}
	}()
	if _, err := f.Pull(ctx, srv.host+"/big:1", PullOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled pull: %v", err)
	}
	var fetched atomic.Int64
	srv.handler = func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			w = &countingWriter{w, &fetched}
		}
		next.ServeHTTP(w, r)
	}
	f = openFixture(t, dir)
	img, _ := f.pull(t, srv.host+"/big:1")
	if n := fetched.Load(); n > size/5 {
		t.Errorf("%d of %d bytes were fetched again", n, size)
	}
	if !f.layers.Has(img.Layers[0]) {
		t.Error("the layer is not unpacked")
	}
	if n, err := f.content.Partial(); n != 0 || err != nil {
		t.Errorf("%d bytes of partial blobs are left: %v", n, err)
	}
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// TestPullDropsWrongPartial finds a partial blob with wrong bytes, as a crash of the machine leaves them.
func TestPullDropsWrongPartial(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	ti := standardImage(t)
	srv.put(t, "app:1", ti)
	w, err := f.content.Create(context.Background(), ti.layers[0].Digest, ti.layers[0].Size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 20)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	f.pull(t, srv.host+"/app:1")
}

func TestPullsAtOnce(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	ti := makeImage(t, dockerspec.DockerOCIImage{},
		plainLayer(t, map[string]string{"a": noise(t, 1<<20)}), plainLayer(t, map[string]string{"b": noise(t, 1<<20)}))
	srv.put(t, "app:1", ti)
	srv.put(t, "app:2", ti)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ref := srv.host + "/app:" + strconv.Itoa(i%2+1)
			if _, err := f.Pull(context.Background(), ref, PullOptions{}); err != nil {
				t.Errorf("pull: %v", err)
			}
			if i%3 == 0 { // Somebody tidies up meanwhile.
				if _, err := f.Prune(context.Background(), nil); err != nil {
					t.Errorf("prune: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for _, tag := range []string{"1", "2"} {
		img, err := f.Get(context.Background(), srv.host+"/app:"+tag)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range img.Layers {
			if !f.layers.Has(l) {
				t.Errorf("layer %s was lost", l)
			}
		}
	}
}

func TestPullMendsDamagedBlob(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	ti := standardImage(t)
	srv.put(t, "app:1", ti)
	img, _ := f.pull(t, srv.host+"/app:1")
	damage(t, f, ti.layers[0].Digest)
	if _, err := f.layers.Collect(context.Background(), func(d digest.Digest) bool { return d != img.Layers[0] }); err != nil {
		t.Fatal(err)
	}
	f.pull(t, srv.host+"/app:1")
	if raw, err := f.content.Bytes(ti.layers[0].Digest, 1<<20); err != nil {
		t.Errorf("the blob is still damaged: %d bytes, %v", len(raw), err)
	}
}

func TestPullOntoFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skip("cannot mount a tmpfs: " + err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	srv, f := newServer(t), openFixture(t, dir)
	srv.put(t, "big:1", makeImage(t, dockerspec.DockerOCIImage{}, plainLayer(t, map[string]string{"big": noise(t, 8<<20)})))
	srv.put(t, "small:1", standardImage(t))
	_, err := f.Pull(context.Background(), srv.host+"/big:1", PullOptions{})
	if known, ok := fault.As(err); !ok || known.Code != "disk-full" || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if list, err := f.List(context.Background(), true, false, nil); err != nil || len(list) != 0 {
		t.Errorf("an image was made: %v %v", list, err)
	}
	// Whoever makes room can go on.
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=40m"); err != nil {
		t.Fatal(err)
	}
	f.pull(t, srv.host+"/big:1")
	f.pull(t, srv.host+"/small:1")
}
