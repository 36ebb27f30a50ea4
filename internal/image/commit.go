package image

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/content"
)

// CommitOptions for Commit.
type CommitOptions struct {
	Parent  digest.Digest // image id, empty for none
	Ref     string
	Author  string
	Comment string
	Created time.Time
	// Config becomes the image's configuration.
	Config dockerspec.DockerOCIImageConfig
	// CreatedBy goes into the history.
	CreatedBy string
	// Diff writes the new layer's uncompressed tar; nil means no new layer.
	Diff func(io.Writer) error
}

// Commit makes an image from a parent and one further layer.
func (s *Store) Commit(ctx context.Context, o CommitOptions) (*Image, error) {
	names, err := optionalName(o.Ref)
	if err != nil {
		return nil, err
	}
	if o.Created.IsZero() {
		o.Created = time.Now()
	}
	lease := s.content.Lease()
	defer lease.Release()
	n := newImage{names: names, parent: o.Parent, config: &dockerspec.DockerOCIImage{}}
	n.config.Platform = platforms.DefaultSpec()
	n.config.RootFS.Type = "layers"
	if o.Parent != "" {
		if err := s.inherit(&n, lease, o.Parent); err != nil {
			return nil, err
		}
	}
	created := o.Created.UTC()
	n.config.Created, n.config.Author, n.config.Config = &created, o.Author, o.Config
	n.config.History = append(n.config.History, ocispec.History{
		Created: &created, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Comment, EmptyLayer: o.Diff == nil,
	})
	if o.Diff != nil {
		layer, err := s.compressLayer(ctx, lease, o.Diff)
		if err != nil {
			return nil, fmt.Errorf("commit: %w", content.ExplainFull(s.content.Dir(), err))
		}
		n.layers = append(n.layers, layer.blob)
		n.config.RootFS.DiffIDs = append(n.config.RootFS.DiffIDs, layer.diffID)
	}
	img, err := s.assemble(ctx, lease, n)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", content.ExplainFull(s.content.Dir(), err))
	}
	for _, name := range names {
		s.emit(events.ActionTag, img.ID.String(), reference.FamiliarString(name), o.Config.Labels)
	}
	return img, nil
}

// inherit takes over the parent's layers, history and platform.
func (s *Store) inherit(n *newImage, lease *content.Lease, parent digest.Digest) error {
	snap := s.catalog.snapshot()
	at, ok := snap.best(parent)
	if !ok {
		return fmt.Errorf("No such image: %s: %w", parent, errdefs.ErrNotFound) //nolint:staticcheck // docker's words
	}
	r, err := s.record(snap.at(at).desc)
	if err != nil {
		return err
	}
	set := digests{}
	r.mark(set)
	for d := range set {
		lease.Hold(d)
	}
	if _, ok := s.catalog.snapshot().best(parent); !ok { // Removed before the lease held it.
		return fmt.Errorf("No such image: %s: %w", parent, errdefs.ErrNotFound) //nolint:staticcheck // docker's words
	}
	n.config.Platform = r.config.Platform
	n.config.RootFS.DiffIDs = append(n.config.RootFS.DiffIDs, r.config.RootFS.DiffIDs...)
	n.config.History = append(n.config.History, r.config.History...)
	for _, l := range r.manifest.Layers {
		n.layers = append(n.layers, ociLayer(l))
	}
	return nil
}

// compressLayer stores what diff writes as gzip, fast and on all processors, and unpacks the plain tar meanwhile.
func (s *Store) compressLayer(ctx context.Context, lease *content.Lease, diff func(io.Writer) error) (made, error) {
	w, err := s.content.Draft(lease)
	if err != nil {
		return made{}, err
	}
	defer w.Close()
	m := made{blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip}}
	tar, plain := io.Pipe() // bounds the memory: both ends keep step
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		id, err := s.ingest(gctx, lease, tar, func() digest.Digest { return m.blob.Digest })
		tar.CloseWithError(err)
		m.diffID = id
		return err
	})
	g.Go(func() error {
		err := compress(&ctxWriter{gctx, w}, plain, diff)
		if err == nil {
			m.blob.Size = w.Offset()
			m.blob.Digest, err = w.Commit()
		}
		plain.CloseWithError(err) // The layer's end is told only once its blob is there.
		return err
	})
	err = g.Wait()
	return m, err
}

// compress writes what diff writes to both: compressed to w, plain to plain.
func compress(w, plain io.Writer, diff func(io.Writer) error) error {
	z, err := pgzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := z.SetConcurrency(512<<10, runtime.GOMAXPROCS(0)); err != nil {
		return err
	}
	if err := diff(io.MultiWriter(plain, z)); err != nil {
		_ = z.Close() // It ends its goroutines; the blob is dropped.
		return err
	}
	return z.Close()
}
