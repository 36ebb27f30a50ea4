package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/content"
)

// Layers that were built here have no blob of their own: what a manifest names is their plain tar, whose digest is the diff
// id, and which the layer store writes byte for byte whenever somebody wants to read it. So building costs neither the time
// nor the room for a second copy. Blobs are made when an image leaves: compressed for a push, or as an output asks for.

// Docker's media types of layers.
const (
	dockerLayerPlain = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// hasBlob says whether a layer's blob can be read.
func (s *Store) hasBlob(d ocispec.Descriptor) bool {
	_, err := s.blobSize(d)
	return err == nil
}

// blobSize is the size of a layer's blob, stored or not. Whatever a manifest calls it: older versions of docker say gzip of
// plain tars too.
func (s *Store) blobSize(d ocispec.Descriptor) (int64, error) {
	size, err := s.content.Size(d.Digest)
	if errdefs.IsNotFound(err) {
		if made, merr := s.layers.TarSize(d.Digest); merr == nil {
			return made, nil
		}
	}
	return size, err
}

// openBlob reads a layer's blob, stored or not. The layer must be held.
func (s *Store) openBlob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.content.Open(d.Digest)
	if !errdefs.IsNotFound(err) {
		return r, err
	}
	if _, merr := s.layers.TarSize(d.Digest); merr != nil {
		return nil, err
	}
	return s.openTar(ctx, d.Digest), nil
}

// openTar reads the plain tar of a layer that was made here.
func (s *Store) openTar(ctx context.Context, id digest.Digest) io.ReadCloser {
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(s.layers.WriteTar(ctx, id, w))
	}()
	return &tarReader{r, cancel, done}
}

type tarReader struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Close ends the writer too.
func (t *tarReader) Close() error {
	t.cancel()
	err := t.PipeReader.Close()
	<-t.done
	return err
}

// Compression says what blobs layers get.
type Compression struct {
	// Type is "gzip", "zstd" or "uncompressed"; empty takes what costs least: blobs that are there, and gzip for others where
	// blobs are needed at all.
	Type string
	// Level is the compressor's own; nil is its fast one.
	Level *int
	// Force makes blobs anew that are there with another compression.
	Force bool
}

func (c Compression) check() error {
	switch c.Type {
	case "", "gzip", "zstd", "uncompressed":
		return nil
	case "estargz":
		return fmt.Errorf("compression estargz is not supported; gzip and zstd are: %w", errdefs.ErrNotImplemented)
	}
	return fmt.Errorf("compression %q is not gzip, zstd or uncompressed: %w", c.Type, errdefs.ErrInvalidArgument)
}

// mediaType of the blobs that are made.
func (c Compression) mediaType() string {
	switch c.Type {
	case "uncompressed":
		return ocispec.MediaTypeImageLayer
	case "zstd":
		return ocispec.MediaTypeImageLayerZstd
	}
	return ocispec.MediaTypeImageLayerGzip
}

// blobs of layers that are there already, by diff id.
type blobs map[digest.Digest][]ocispec.Descriptor

// storedBlobs finds the blobs of layers: those that they came from, and those of the images that are here.
func (s *Store) storedBlobs(ids []digest.Digest) blobs {
	all, want := blobs{}, digests{}
	want.add(ids...)
	for id, d := range s.notedBlobs() {
		if want.has(id) && s.content.Has(d.Digest) {
			all[id] = append(all[id], d)
		}
	}
	s.each(s.catalog.snapshot(), func(_ entry, r *record) {
		for i, l := range r.manifest.Layers {
			id := r.config.RootFS.DiffIDs[i]
			known := slices.ContainsFunc(all[id], func(d ocispec.Descriptor) bool { return d.Digest == l.Digest })
			if want.has(id) && !known && s.content.Has(l.Digest) {
				l = ociLayer(l)
				all[id] = append(all[id], ocispec.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size})
			}
		}
	})
	return all
}

// find returns a stored blob that will do.
func (b blobs) find(id digest.Digest, c Compression) (ocispec.Descriptor, bool) {
	for _, d := range b[id] {
		if d.MediaType == c.mediaType() {
			return d, true
		}
	}
	if len(b[id]) > 0 && !c.Force {
		return b[id][0], true
	}
	return ocispec.Descriptor{}, false
}

// blob makes, or finds, a layer's blob; of one that was made here, and for which no compression is asked, that is its plain
// tar without its being stored. stored wants a compressed one all the same.
func (s *Store) blob(ctx context.Context, lease *content.Lease, id digest.Digest, known blobs, c Compression, stored bool) (ocispec.Descriptor, error) {
	if d, ok := known.find(id, c); ok {
		lease.Hold(d.Digest)
		if s.content.Has(d.Digest) {
			return d, nil
		}
	}
	if c.Type == "uncompressed" || c.Type == "" && !stored {
		if size, err := s.layers.TarSize(id); err == nil {
			lease.Hold(id)
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: size}, nil
		}
	}
	return s.makeBlob(ctx, lease, id, known, c)
}

// makeBlob stores a layer's blob.
func (s *Store) makeBlob(ctx context.Context, lease *content.Lease, id digest.Digest, known blobs, c Compression) (ocispec.Descriptor, error) {
	plain, err := s.plainTar(ctx, id, known)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer plain.Close()
	w, err := s.content.Draft(lease)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Close()
	z, err := c.compressor(&ctxWriter{ctx, w})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_, err = io.CopyBuffer(z, plain, make([]byte, 256<<10))
	if err = errors.Join(err, z.Close()); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write layer %s: %w", id, err)
	}
	d := ocispec.Descriptor{MediaType: c.mediaType(), Size: w.Offset()}
	d.Digest, err = w.Commit()
	return d, err
}

// plainTar reads the tar that a diff id is the digest of: as the layer store writes it, or from a blob.
func (s *Store) plainTar(ctx context.Context, id digest.Digest, known blobs) (io.ReadCloser, error) {
	if _, err := s.layers.TarSize(id); err == nil {
		return s.openTar(ctx, id), nil
	}
	if len(known[id]) == 0 {
		return nil, fmt.Errorf("layer %s: its blob is not stored here: %w", id, errdefs.ErrNotFound)
	}
	raw, err := s.content.Open(known[id][0].Digest)
	if err != nil {
		return nil, err
	}
	plain, _, err := archive.Decompress(raw)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return &both{plain, raw}, nil
}

// both closes what it reads, and what that reads.
type both struct {
	io.ReadCloser
	under io.Closer
}

func (b *both) Close() error { return errors.Join(b.ReadCloser.Close(), b.under.Close()) }

// gzipBlock is fixed, so that the same tar gives the same blob on machines with more or fewer processors.
const gzipBlock = 512 << 10

// compressor compresses fast, gzip on all processors. The same bytes in give the same bytes out everywhere.
func (c Compression) compressor(w io.Writer) (io.WriteCloser, error) {
	switch c.Type {
	case "uncompressed":
		return nopCloser{w}, nil
	case "zstd":
		level := zstd.SpeedFastest
		if c.Level != nil {
			level = zstd.EncoderLevelFromZstd(*c.Level)
		}
		return zstd.NewWriter(w, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
	}
	level := gzip.BestSpeed
	if c.Level != nil {
		level = *c.Level
	}
	z, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, fmt.Errorf("compression level %d: %w: %w", level, err, errdefs.ErrInvalidArgument)
	}
	return z, z.SetConcurrency(gzipBlock, runtime.GOMAXPROCS(0))
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
