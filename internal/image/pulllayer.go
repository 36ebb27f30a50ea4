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
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/content"
)

// How many layers are fetched, and how many unpacked, at a time.
const (
	fetchers  = 4
	unpackers = 3
)

// slots bounds how many goroutines do something at a time.
type slots chan struct{}

func (s slots) enter(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s slots) leave() { <-s }

// layers fetches and unpacks all layers.
func (p *pull) layers(ctx context.Context, m *ocispec.Manifest, diffIDs []digest.Digest) error {
	seen := p.begun
	g, ctx := errgroup.WithContext(ctx)
	fetch, unpack := make(slots, fetchers), make(slots, unpackers)
	for i, d := range m.Layers {
		p.o.Report.status(short(d.Digest), "Pulling fs layer")
		if seen.has(d.Digest) {
			continue
		}
		seen.add(d.Digest)
		p.lease.Hold(d.Digest, diffIDs[i])
		l := &layerPull{p: p, desc: d, diffID: diffIDs[i], id: short(d.Digest), unpack: unpack}
		g.Go(func() error {
			if err := l.run(ctx, fetch); err != nil {
				return fmt.Errorf("layer %s: %w", l.id, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// layerPull is the fetching and unpacking of one layer.
type layerPull struct {
	p      *pull
	desc   ocispec.Descriptor
	diffID digest.Digest
	id     string
	unpack slots
}

func (l *layerPull) run(ctx context.Context, fetch slots) error {
	s, report := l.p.s, l.p.o.Report
	if s.content.Has(l.desc.Digest) && s.layers.Has(l.diffID) {
		report.status(l.id, "Already exists")
		return nil
	}
	if len(fetch) == cap(fetch) {
		report.status(l.id, "Waiting")
	}
	if err := fetch.enter(ctx); err != nil {
		return err
	}
	finish, err := l.fetch(ctx)
	fetch.leave()
	if err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	report.status(l.id, "Pull complete")
	return nil
}

// fetch brings the blob here; finish waits until it is unpacked.
func (l *layerPull) fetch(ctx context.Context) (finish func() error, err error) {
	for try := 0; ; try++ {
		w, err := l.p.s.content.Create(ctx, l.desc.Digest, l.desc.Size)
		if errors.Is(err, errdefs.ErrAlreadyExists) {
			err := l.unpackStored(ctx)
			if errors.Is(err, errdefs.ErrDataLoss) && try == 0 {
				// The blob is damaged: fetched again, it mends every image that uses it.
				err = l.p.s.content.Delete(l.desc.Digest)
				if err == nil {
					continue
				}
			}
			return func() error { return nil }, err
		}
		if err != nil {
			return nil, err
		}
		resumed := w.Offset() > 0
		finish, err = l.fetchInto(ctx, w)
		if err == nil {
			return finish, nil
		}
		// What an earlier attempt left may be what was wrong; it has been dropped.
		if !resumed || try > 0 || !errors.Is(err, errdefs.ErrDataLoss) {
			return nil, err
		}
	}
}

// fetchInto downloads the rest of the blob, while the layer is unpacked from its start.
func (l *layerPull) fetchInto(ctx context.Context, w *content.Writer) (finish func() error, err error) {
	defer w.Close()
	follow, err := w.Follow()
	if err != nil {
		return nil, err
	}
	extracting := l.p.o.Report.meter(l.id, "Extracting", l.desc.Size)
	extracting.hush(true)
	ctx, cancel := context.WithCancelCause(ctx)
	var unpacking errgroup.Group
	unpacking.Go(func() error {
		defer follow.Close()
		err := l.unpackFrom(ctx, extracting.reader(follow))
		if err != nil && !isCorrupt(err) { // Of a layer that seems corrupt, the digest will tell whether the bytes are the right ones.
			cancel(err)
		}
		return err
	})
	if err := l.download(ctx, w); err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
			err = cause // The unpacking failed first.
		}
		w.Fail(err)
		cancel(err)
		_ = unpacking.Wait() // err has its cause.
		return nil, err
	}
	extracting.hush(false)
	l.p.o.Report.status(l.id, "Download complete")
	return func() error {
		defer cancel(nil)
		return unpacking.Wait()
	}, nil
}

func (l *layerPull) download(ctx context.Context, w *content.Writer) error {
	m := l.p.o.Report.meter(l.id, "Downloading", l.desc.Size)
	if err := l.p.repo.Download(ctx, l.desc, w.Offset(), m.writer(w, w.Offset())); err != nil {
		return err
	}
	l.p.o.Report.status(l.id, "Verifying Checksum")
	_, err := w.Commit()
	return err
}

func (l *layerPull) unpackStored(ctx context.Context) error {
	r, err := l.p.s.content.Open(l.desc.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	err = l.unpackFrom(ctx, l.p.o.Report.meter(l.id, "Extracting", l.desc.Size).reader(r))
	if isCorrupt(err) {
		// The rest of the blob tells whether its bytes are the right ones.
		if _, rest := io.Copy(io.Discard, r); rest != nil {
			return rest
		}
	}
	return err
}

func isCorrupt(err error) bool {
	return errors.Is(err, errdefs.ErrInvalidArgument) || errors.Is(err, errdefs.ErrDataLoss)
}

func (l *layerPull) unpackFrom(ctx context.Context, r io.Reader) error {
	if l.p.s.layers.Has(l.diffID) {
		return nil
	}
	if err := l.unpack.enter(ctx); err != nil {
		return err
	}
	defer l.unpack.leave()
	return l.p.s.layers.Unpack(ctx, l.diffID, l.desc.MediaType, r)
}

// selfDescription reads what a manifest says of itself.
func selfDescription(raw []byte) (mediaType string, schema int, err error) {
	var m struct {
		SchemaVersion int                  `json:"schemaVersion"`
		MediaType     string               `json:"mediaType"`
		Config        *ocispec.Descriptor  `json:"config"`
		Manifests     []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", 0, notAnImage("its manifest cannot be read: " + err.Error())
	}
	switch {
	case m.MediaType != "":
		return m.MediaType, m.SchemaVersion, nil
	case m.Config != nil:
		return ocispec.MediaTypeImageManifest, m.SchemaVersion, nil
	case m.Manifests != nil:
		return ocispec.MediaTypeImageIndex, m.SchemaVersion, nil
	}
	return "", m.SchemaVersion, nil
}
