package testbed

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Recipe is an image to make: layers on layers, each from a step.
type Recipe struct {
	// Name is its reference ("kist.test/busybox:latest"); the archive is called after File.
	Name, File string
	// Layers make directories, the lowest first; each sees the ones below it.
	Layers []Step
	Config dockerspec.DockerOCIImageConfig
	// Plain leaves layers uncompressed.
	Plain bool
}

// Step makes one layer: it writes files below root, which shows the layers below it.
type Step struct {
	About string
	Make  func(ctx context.Context, root string) error
}

// created is the time in all made images, so that they are the same each time.
var created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Archive returns the path of the recipe's image as a tar that docker load, podman, skopeo and OCI tools read. It is made
// if it is not there yet; several processes may ask at once.
func (r Recipe) Archive(ctx context.Context) (string, error) {
	path := filepath.Join(Images(), r.File+".tar")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(Images(), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(r.File)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, r.make(ctx, path)
}

// lock keeps other processes from making the same thing at the same time.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(Images(), ".lock-"+name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { _ = f.Close() }, nil
}

// stepDir returns the directory of the last step's layer, which images that begin with the same steps share.
func stepDir(ctx context.Context, below []string, steps []Step) (string, error) {
	key := sha256.New()
	for _, s := range steps {
		fmt.Fprintln(key, s.About)
	}
	name := hex.EncodeToString(key.Sum(nil)[:8])
	dir := filepath.Join(Images(), ".steps", name)
	unlock, err := lock(name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	layer := filepath.Join(work, "layer")
	if err := makeLayer(ctx, work, layer, below, steps[len(steps)-1]); err != nil {
		return "", err
	}
	return dir, os.Rename(layer, dir)
}

func (r Recipe) make(ctx context.Context, path string) error {
	work, err := os.MkdirTemp(Images(), "."+r.File+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	layout := filepath.Join(work, "layout")
	b := &blobs{dir: filepath.Join(layout, "blobs", "sha256")}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	var diffs []string
	config := dockerspec.DockerOCIImage{
		Image: ocispec.Image{
			Created: &created, Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
			RootFS: ocispec.RootFS{Type: "layers"},
		},
		Config: r.Config,
	}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, step := range r.Layers {
		dir, err := stepDir(ctx, diffs, r.Layers[:i+1])
		if err != nil {
			return fmt.Errorf("%s: %s: %w", r.File, step.About, err)
		}
		diffs = append(diffs, dir)
		desc, diffID, err := b.layer(dir, r.Plain)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", r.File, step.About, err)
		}
		manifest.Layers = append(manifest.Layers, desc)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: step.About})
	}
	if manifest.Config, err = b.json(ocispec.MediaTypeImageConfig, config); err != nil {
		return err
	}
	if err := b.index(layout, r.Name, manifest); err != nil {
		return err
	}
	tmp := filepath.Join(work, "image.tar")
	if err := tarTree(tmp, layout); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// blobs writes content-addressed files.
type blobs struct{ dir string }

func (b *blobs) put(mediaType string, raw []byte) (ocispec.Descriptor, error) {
	d := digest.FromBytes(raw)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))},
		os.WriteFile(filepath.Join(b.dir, d.Encoded()), raw, 0o644)
}

func (b *blobs) json(mediaType string, v any) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return b.put(mediaType, raw)
}

func (b *blobs) layer(dir string, plain bool) (ocispec.Descriptor, digest.Digest, error) {
	fail := func(err error) (ocispec.Descriptor, digest.Digest, error) { return ocispec.Descriptor{}, "", err }
	f, err := os.CreateTemp(b.dir, ".layer-")
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	blob, diff := sha256.New(), sha256.New()
	out := io.MultiWriter(f, blob)
	mediaType := ocispec.MediaTypeImageLayer
	if plain {
		err = writeLayer(io.MultiWriter(out, diff), dir)
	} else {
		mediaType = ocispec.MediaTypeImageLayerGzip
		gz, _ := gzip.NewWriterLevel(out, 6) // Docker's level.
		if err = writeLayer(io.MultiWriter(gz, diff), dir); err == nil {
			err = gz.Close()
		}
	}
	if err != nil {
		return fail(err)
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return fail(err)
	}
	sum := hex.EncodeToString(blob.Sum(nil))
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.NewDigestFromEncoded(digest.SHA256, sum), Size: size}
	return desc, digest.NewDigest(digest.SHA256, diff), os.Rename(f.Name(), filepath.Join(b.dir, sum))
}

// index writes what makes the blobs a layout, for both kinds of readers.
func (b *blobs) index(layout, name string, m ocispec.Manifest) error {
	desc, err := b.json(ocispec.MediaTypeImageManifest, m)
	if err != nil {
		return err
	}
	desc.Annotations = map[string]string{
		"io.containerd.image.name": name, ocispec.AnnotationRefName: name,
	}
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{desc},
	}
	type dockerManifest struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	old := dockerManifest{Config: "blobs/sha256/" + m.Config.Digest.Encoded(), RepoTags: []string{name}}
	for _, l := range m.Layers {
		old.Layers = append(old.Layers, "blobs/sha256/"+l.Digest.Encoded())
	}
	for file, v := range map[string]any{
		"index.json": index, "manifest.json": []dockerManifest{old},
		ocispec.ImageLayoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion},
	} {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(layout, file), raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tarTree writes the layout as a plain tar.
func tarTree(path, dir string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	return tw.Close()
}
