package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/content"
)

// made is a layer that was made here or came in an archive: its blob, and what it is when unpacked.
type made struct {
	id     string // for progress
	blob   ocispec.Descriptor
	diffID digest.Digest
}

// layerTypes are the media types of layers by compression.
var layerTypes = map[archive.Compression]string{
	archive.Plain: ocispec.MediaTypeImageLayer,
	archive.Gzip:  ocispec.MediaTypeImageLayerGzip,
	archive.Zstd:  ocispec.MediaTypeImageLayerZstd,
}

// peek tells the compression of what r holds without reading it.
func peek(r *bufio.Reader) (archive.Compression, error) {
	head, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return archive.Detect(head), nil
}

// ingest unpacks a layer whose diff id is not known, and leases it. The blob is the layer's too, and stored by then.
func (s *Store) ingest(ctx context.Context, lease *content.Lease, r io.Reader, blob func() digest.Digest) (digest.Digest, error) {
	id, err := s.layers.Ingest(ctx, r)
	if err != nil {
		return "", err
	}
	lease.Hold(id)
	if s.layers.Has(id) {
		return id, nil
	}
	// A collection came between the two. From the blob, then, with the lease in force.
	again, err := s.content.Open(blob())
	if err != nil {
		return "", err
	}
	defer again.Close()
	return id, s.layers.Unpack(ctx, id, "", again)
}

// storeLayer copies a layer from r into the content store as it is, and unpacks it meanwhile.
func (s *Store) storeLayer(ctx context.Context, lease *content.Lease, r io.Reader) (made, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	kind, err := peek(buffered)
	if err != nil {
		return made{}, err
	}
	var src io.Reader = buffered
	if layerTypes[kind] == "" { // No media type stands for it.
		plain, _, err := archive.Decompress(buffered)
		if err != nil {
			return made{}, err
		}
		defer plain.Close()
		src, kind = plain, archive.Plain
	}
	return s.writeLayer(ctx, lease, layerTypes[kind], func(w io.Writer) error {
		_, err := io.Copy(w, src)
		return err
	})
}

// writeLayer stores what write writes, and unpacks it meanwhile.
func (s *Store) writeLayer(ctx context.Context, lease *content.Lease, mediaType string, write func(io.Writer) error) (made, error) {
	w, err := s.content.Draft(lease)
	if err != nil {
		return made{}, err
	}
	defer w.Close()
	follow, err := w.Follow()
	if err != nil {
		return made{}, err
	}
	defer follow.Close()
	m := made{blob: ocispec.Descriptor{MediaType: mediaType}}
	stored := make(chan struct{})
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		m.diffID, err = s.ingest(gctx, lease, follow, func() digest.Digest { <-stored; return m.blob.Digest })
		return err
	})
	g.Go(func() error {
		defer close(stored)
		err := write(&ctxWriter{gctx, w})
		if err != nil {
			w.Fail(err)
			return err
		}
		m.blob.Size = w.Offset()
		m.blob.Digest, err = w.Commit()
		return err
	})
	err = g.Wait()
	return m, err
}

// ctxWriter refuses to write once its context has ended.
type ctxWriter struct {
	ctx context.Context //nolint:containedctx // lives as long as the one copy that made it
	io.Writer
}

func (w *ctxWriter) Write(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

// newImage is what assemble makes an image of.
type newImage struct {
	config *dockerspec.DockerOCIImage
	layers []ocispec.Descriptor
	names  []reference.Named
	parent digest.Digest
}

// assemble writes configuration and manifest, makes everything durable, and names the image.
func (s *Store) assemble(ctx context.Context, lease *content.Lease, n newImage) (*Image, error) {
	raw, err := json.Marshal(n.config)
	if err != nil {
		return nil, fmt.Errorf("write image configuration: %w", err)
	}
	desc, err := s.putManifest(ctx, lease, raw, n.layers)
	if err != nil {
		return nil, err
	}
	return s.publish(entry{desc: desc, parent: n.parent}, n.names)
}

// putManifest stores a configuration, as it is, and a manifest for it.
func (s *Store) putManifest(ctx context.Context, lease *content.Lease, config []byte, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, config), Layers: layers,
	}
	if m.Layers == nil {
		m.Layers = []ocispec.Descriptor{}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write manifest: %w", err)
	}
	desc := describe(ocispec.MediaTypeImageManifest, raw)
	lease.Hold(m.Config.Digest, desc.Digest)
	if err := s.putBlob(ctx, m.Config, config); err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, s.putBlob(ctx, desc, raw)
}

func describe(mediaType string, raw []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

// publish makes what was written durable, and then gives the images of an entry their names, or none. The image that comes back
// is the one for this host.
func (s *Store) publish(e entry, names []reference.Named) (*Image, error) {
	for _, p := range e.parts() {
		r, err := s.record(p.desc)
		if err != nil {
			return nil, err
		}
		if err := s.noteAll(r); err != nil {
			return nil, err
		}
		if p.desc.Digest == e.desc.Digest {
			e.id = r.id
		}
	}
	e.tagged = time.Now()
	err := s.name(func(ed *editor) error {
		e, err := s.beside(ed, e)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			ed.put(e)
		}
		for _, n := range names {
			e.name = n.String()
			ed.put(e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.image(s.catalog.snapshot(), e)
}

// name makes blobs durable, and then what edit calls them. The layers follow behind: what of them a crash of the machine
// takes is unpacked from the blobs again (see mend), so nobody waits for gigabytes to reach the disk. They come last, or the
// index would wait behind them.
func (s *Store) name(edit func(*editor) error) error {
	if err := s.content.Sync(); err != nil {
		return err
	}
	if err := s.change(edit); err != nil {
		return err
	}
	s.layers.SyncBehind()
	return nil
}

// ociLayer gives a layer of a Docker manifest the media type that it has in an OCI one.
func ociLayer(d ocispec.Descriptor) ocispec.Descriptor {
	switch d.MediaType {
	case "application/vnd.docker.image.rootfs.diff.tar":
		d.MediaType = ocispec.MediaTypeImageLayer
	case "application/vnd.docker.image.rootfs.diff.tar.gzip":
		d.MediaType = ocispec.MediaTypeImageLayerGzip
	case "application/vnd.docker.image.rootfs.diff.tar.zstd":
		d.MediaType = ocispec.MediaTypeImageLayerZstd
	}
	return d
}

// optionalName reads a name that may be missing. A digest is no name for something new.
func optionalName(ref string) ([]reference.Named, error) {
	if ref == "" {
		return nil, nil
	}
	named, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, fmt.Errorf("%q: a digest cannot be given as a name: %w", ref, errdefs.ErrInvalidArgument)
	}
	return []reference.Named{named}, nil
}
