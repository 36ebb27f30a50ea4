package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/layer"
)

// Incoming is an image on its way from another store. Nothing of it is seen before Publish, and what is not published goes.
type Incoming struct {
	s     *Store
	lease *content.Lease
	hold  *layer.Hold
	done  bool
	// unpacking goes on behind: the next blob need not wait for it.
	unpacking *errgroup.Group
	slots     slots
	cancel    context.CancelFunc
	ctx       context.Context //nolint:containedctx // of what goes on behind; Close ends it
}

// Incoming makes room for an image. It must be closed.
func (s *Store) Incoming(ctx context.Context) *Incoming {
	in := &Incoming{s: s, lease: s.content.Lease(), hold: s.layers.Hold(), slots: make(slots, unpackers)}
	ctx, in.cancel = context.WithCancel(ctx)
	in.unpacking, in.ctx = errgroup.WithContext(ctx)
	return in
}

// Close gives up what has not been published; blobs that came in part stay for the next attempt.
func (in *Incoming) Close() error {
	in.cancel()
	_ = in.unpacking.Wait() // Publish has told, or there is another error.
	in.hold.Release()
	in.lease.Release()
	if in.done {
		return nil
	}
	_, err := in.s.collect(context.Background())
	return err
}

// Has says whether a layer is here, and holds it if it is.
func (in *Incoming) Has(l *OutgoingLayer) bool {
	in.lease.Hold(l.DiffID, l.Blob.Digest)
	if !in.hold.Take(l.DiffID) {
		return false
	}
	if _, err := in.s.layers.TarSize(l.DiffID); err == nil {
		return true
	}
	known := in.s.storedBlobs([]digest.Digest{l.DiffID})
	for _, d := range known[l.DiffID] {
		in.lease.Hold(d.Digest)
	}
	return len(known[l.DiffID]) > 0
}

// Tar takes in a layer's plain tar.
func (in *Incoming) Tar(ctx context.Context, l *OutgoingLayer, r io.Reader) error {
	if l.Made {
		return in.s.layers.UnpackMade(ctx, l.DiffID, l.Created, r, in.hold)
	}
	return in.blob(ctx, ocispec.Descriptor{MediaType: l.Blob.MediaType, Digest: l.DiffID}, l.DiffID, func(int64) (io.Reader, error) { return r, nil }, true)
}

// Blob takes in a layer's blob. from gives its bytes, beginning with the first that is not here.
func (in *Incoming) Blob(ctx context.Context, l *OutgoingLayer, from func(offset int64) (io.Reader, error)) error {
	if err := checkDescriptor(l.Blob); err != nil {
		return err
	}
	return in.blob(ctx, l.Blob, l.DiffID, from, false)
}

// blob stores a blob and unpacks it meanwhile.
func (in *Incoming) blob(ctx context.Context, d ocispec.Descriptor, id digest.Digest, from func(int64) (io.Reader, error), whole bool) error {
	in.lease.Hold(d.Digest, id)
	size := d.Size
	if size <= 0 {
		size = -1
	}
	w, err := in.s.content.Create(ctx, d.Digest, size)
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		r, err := from(max(d.Size, 0))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return err
		}
		in.behind(id, func(ctx context.Context) error { return in.s.unpackBlob(ctx, d, id) })
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if whole && w.Offset() > 0 {
		if err := w.Restart(); err != nil {
			return err
		}
	}
	follow, err := w.Follow()
	if err != nil {
		return err
	}
	in.behind(id, func(ctx context.Context) error {
		defer follow.Close()
		return in.s.layers.Unpack(ctx, id, d.MediaType, follow)
	})
	r, err := from(w.Offset())
	if err == nil {
		_, err = io.CopyBuffer(&ctxWriter{in.ctx, w}, r, make([]byte, 256<<10))
	}
	if err == nil {
		_, err = w.Commit()
	}
	if err != nil {
		w.Fail(err)
		return fmt.Errorf("layer %s: %w", id, content.ExplainFull(in.s.content.Dir(), err))
	}
	return nil
}

// behind unpacks a layer while others come.
func (in *Incoming) behind(id digest.Digest, unpack func(context.Context) error) {
	in.unpacking.Go(func() error {
		if err := in.slots.enter(in.ctx); err != nil {
			return err
		}
		defer in.slots.leave()
		if err := unpack(in.ctx); err != nil {
			return fmt.Errorf("layer %s: %w", id, content.ExplainFull(in.s.content.Dir(), err))
		}
		in.hold.Take(id)
		return nil
	})
}

// Published is an image as it came.
type Published struct {
	Config, Manifest []byte
	ManifestType     string
	Names            []MovedName
	Layers           []OutgoingLayer
	// Group joins it with images that came before.
	Group *Group
}

// Publish names the image, whose layers must all be here. It keeps its manifest where all the blobs that this names are here,
// and its id in any case.
func (in *Incoming) Publish(ctx context.Context, p Published) (*Image, error) {
	names, err := movedNames(p.Names)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(p.Manifest)
	if err != nil {
		return nil, err
	}
	if got := m.Config.Digest.Algorithm().FromBytes(p.Config); got != m.Config.Digest {
		return nil, notAnImage(fmt.Sprintf("its configuration has the digest %s, not %s", got, m.Config.Digest))
	}
	config, err := parseConfig(p.Config, len(m.Layers))
	if err != nil {
		return nil, err
	}
	if err := in.unpacking.Wait(); err != nil {
		return nil, err
	}
	if !in.hold.Take(config.RootFS.DiffIDs...) {
		return nil, fmt.Errorf("a layer of the image is not here: %w", errdefs.ErrInvalidArgument)
	}
	desc, kept, err := in.manifest(ctx, &p, m, config.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	index, err := in.group(ctx, p.Group, desc)
	if err != nil {
		return nil, err
	}
	img, err := in.s.publishMoved(entry{desc: desc, index: index}, names, kept, p.Group)
	if err != nil {
		return nil, err
	}
	in.done = true
	in.s.emit(events.ActionLoad, img.ID.String(), img.ID.String(), img.Config.Config.Labels)
	return img, nil
}

// manifest stores the image's manifest, or one that names the blobs that are here.
func (in *Incoming) manifest(ctx context.Context, p *Published, m *ocispec.Manifest, ids []digest.Digest) (ocispec.Descriptor, bool, error) {
	in.lease.Hold(m.Config.Digest)
	if err := in.s.putBlob(ctx, m.Config, p.Config); err != nil {
		return ocispec.Descriptor{}, false, err
	}
	layers, kept := slices.Clone(m.Layers), isManifest(p.ManifestType)
	known := in.s.storedBlobs(ids)
	for i, l := range layers {
		in.lease.Hold(l.Digest)
		if in.s.hasBlob(l) && (in.s.content.Has(l.Digest) || l.Digest == ids[i]) {
			continue
		}
		kept = false
		var err error
		if layers[i], err = in.s.blob(ctx, in.lease, ids[i], known, Compression{}, false); err != nil {
			return ocispec.Descriptor{}, false, err
		}
	}
	if !kept {
		desc, err := in.s.putManifest(ctx, in.lease, p.Config, layers)
		return desc, false, err
	}
	desc := describe(p.ManifestType, p.Manifest)
	in.lease.Hold(desc.Digest)
	return desc, true, in.s.putBlob(ctx, desc, p.Manifest)
}

func movedNames(list []MovedName) ([]movedName, error) {
	const most = 1000
	if len(list) > most {
		return nil, fmt.Errorf("an image with %d names: %w", len(list), errdefs.ErrInvalidArgument)
	}
	var names []movedName
	for _, n := range list {
		named, err := parseName(n.Name)
		if err != nil {
			return nil, err
		}
		if n.Source != "" && n.Source.Validate() != nil {
			return nil, fmt.Errorf("digest %q: %w", n.Source, errdefs.ErrInvalidArgument)
		}
		names = append(names, movedName{named, n.Source})
	}
	return names, nil
}

type movedName struct {
	named  reference.Named
	source digest.Digest
}

// publishMoved names an image. Digests by which registries know it are those of its manifest, so they go with that.
func (s *Store) publishMoved(e entry, names []movedName, kept bool, g *Group) (*Image, error) {
	r, err := s.record(e.desc)
	if err != nil {
		return nil, err
	}
	if err := s.noteAll(r); err != nil {
		return nil, err
	}
	err = s.name(func(ed *editor) error {
		e.id, e.tagged = r.id, time.Now()
		e, err := s.join(ed, e, g)
		if err != nil {
			return err
		}
		ed.put(e)
		for _, n := range names {
			e.name, e.source = n.named.String(), n.source
			if !kept {
				e.source = ""
			}
			if _, byDigest := n.named.(reference.Digested); byDigest && !kept {
				continue
			}
			ed.put(e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.image(s.catalog.snapshot(), entry{id: r.id, desc: r.desc})
}
