package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/layer"
)

// A layer that was not made here can be written down only as the blob it came from. A layer may be needed longer than the
// image it came with, by the build cache, so the layer store notes for each which blob that is, and the blob stays as long
// as the layer does.

// noted is the note about a layer.
type noted struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

// note remembers a layer's blob.
func (s *Store) note(id digest.Digest, d ocispec.Descriptor) error {
	if id == layer.Empty || !s.content.Has(d.Digest) || !s.layers.Has(id) {
		return nil
	}
	if _, err := s.layers.TarSize(id); err == nil {
		return nil // it can be written without
	}
	d = ociLayer(d)
	raw, err := json.Marshal(noted{d.MediaType, d.Digest, d.Size})
	if err != nil {
		return err
	}
	return s.layers.SetNote(id, string(raw))
}

// noteAll remembers the blobs of an image's layers.
func (s *Store) noteAll(r *record) error {
	var errs []error
	for i, l := range r.manifest.Layers {
		errs = append(errs, s.note(r.config.RootFS.DiffIDs[i], l))
	}
	return errors.Join(errs...)
}

// notedBlobs are the blobs that layers which are there came from, by diff id.
func (s *Store) notedBlobs() map[digest.Digest]ocispec.Descriptor {
	list := map[digest.Digest]ocispec.Descriptor{}
	for id, raw := range s.layers.Notes() {
		var n noted
		if json.Unmarshal([]byte(raw), &n) == nil && n.Digest.Validate() == nil {
			list[id] = ocispec.Descriptor{MediaType: n.MediaType, Digest: n.Digest, Size: n.Size}
		}
	}
	return list
}

// PutLayer stores a layer's blob and unpacks it, for somebody who needs the layer without an image: the layer is held by
// hold, and its blob stays as long as it does.
func (s *Store) PutLayer(ctx context.Context, id digest.Digest, d ocispec.Descriptor, r io.Reader, hold *layer.Hold) error {
	lease := s.content.Lease()
	defer lease.Release()
	lease.Hold(id, d.Digest)
	if !s.content.Has(d.Digest) {
		if err := s.putStream(ctx, d, r); err != nil {
			return fmt.Errorf("layer %s: %w", id, content.ExplainFull(s.content.Dir(), err))
		}
	}
	if !s.layers.Has(id) {
		if err := s.unpackBlob(ctx, d, id); err != nil {
			return err
		}
	}
	hold.Take(id)
	return s.note(id, d)
}

// putStream stores a blob whose digest is known.
func (s *Store) putStream(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	size := d.Size
	if size == 0 {
		size = -1
	}
	return s.put(ctx, d.Digest, size, func(w *content.Writer) error {
		_, err := io.CopyBuffer(&ctxWriter{ctx, w}, r, make([]byte, 256<<10))
		return err
	})
}

// put has fill write a blob from its beginning, unless it is here. The size is -1 if it is not known.
func (s *Store) put(ctx context.Context, d digest.Digest, size int64, fill func(*content.Writer) error) error {
	w, err := s.content.Create(ctx, d, size)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if w.Offset() > 0 {
		if err := w.Restart(); err != nil {
			return err
		}
	}
	if err := fill(w); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}
