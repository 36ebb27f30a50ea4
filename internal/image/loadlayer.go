package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/content"
)

// layer stores one layer as it is, and has it unpacked behind. It returns when the archive's part of it has been read.
func (l *loader) layer(ctx context.Context, name string, size int64, r io.Reader, head []byte) error {
	kind := archive.Detect(head)
	if layerTypes[kind] == "" {
		return fmt.Errorf("a layer compressed with %s: %w", kind, errdefs.ErrNotImplemented)
	}
	m := &made{}
	m.blob.MediaType, m.blob.Size = layerTypes[kind], size
	l.layers[name] = m
	promised, ok := blobDigest(name)
	if ok {
		m.id = short(promised)
	} else {
		m.id = name[:min(12, len(name))]
		w, err := l.s.content.Draft(l.lease)
		if err != nil {
			return err
		}
		return l.copy(ctx, m, w, r)
	}
	l.lease.Hold(promised)
	w, err := l.s.content.Create(ctx, promised, size)
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		m.blob.Digest = promised
		return l.stored(ctx, m, kind)
	}
	if err != nil {
		return err
	}
	if w.Offset() > 0 {
		if err := w.Restart(); err != nil {
			w.Close()
			return err
		}
	}
	return l.copy(ctx, m, w, r)
}

// stored deals with a blob that is here already: what the archive has for it is skipped.
func (l *loader) stored(ctx context.Context, m *made, kind archive.Compression) error {
	d := m.blob.Digest
	size, err := l.s.content.Size(d)
	if err != nil {
		return err
	}
	m.blob.Size = size
	id, ok := l.known[d]
	if kind == archive.Plain {
		id, ok = d, true
	}
	if ok {
		l.lease.Hold(id)
		if l.s.layers.Has(id) {
			m.diffID = id
			return nil
		}
	}
	l.group.Go(func() error {
		r, err := l.s.content.Open(d)
		if err != nil {
			return err
		}
		defer r.Close()
		return l.unpackInto(ctx, m, r, func() digest.Digest { return d })
	})
	return nil
}

// copy writes the blob, followed by its unpacking.
func (l *loader) copy(ctx context.Context, m *made, w *content.Writer, r io.Reader) error {
	defer w.Close()
	follow, err := w.Follow()
	if err != nil {
		return err
	}
	committed := make(chan struct{})
	l.group.Go(func() error {
		defer follow.Close()
		return l.unpackInto(ctx, m, follow, func() digest.Digest { <-committed; return m.blob.Digest })
	})
	defer close(committed)
	if _, err := io.Copy(&ctxWriter{ctx, w}, r); err != nil {
		w.Discard(err)
		return err
	}
	d, err := w.Commit()
	if err != nil {
		return err
	}
	m.blob.Digest = d
	return nil
}

func (l *loader) unpackInto(ctx context.Context, m *made, r io.Reader, blob func() digest.Digest) error {
	if err := l.unpack.enter(ctx); err != nil {
		return err
	}
	defer l.unpack.leave()
	meter := l.report.meter(m.id, "Loading layer", m.blob.Size)
	id, err := l.s.ingest(ctx, l.lease, meter.reader(r), blob)
	if err != nil {
		return err
	}
	m.diffID = id // read when the group is done
	return nil
}
