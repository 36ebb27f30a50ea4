package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/keyed"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/registry"
)

// Image is one image for one platform, resolved. It is shared: it must not be changed.
type Image struct {
	ID       digest.Digest // of the configuration
	Manifest ocispec.Descriptor
	Config   dockerspec.DockerOCIImage
	// Layers are the diff ids, lowest first.
	Layers []digest.Digest
	// Names are the full references that point at it ("docker.io/library/debian:12"), tags and digests.
	Names []string
}

// Options for Open.
type Options struct {
	// Dir is the OCI image layout ("content") below the data root.
	Dir    string
	Layers *layer.Store
	Events *event.Bus
	// InUse tells which images containers use, so that they are neither removed nor collected: container id by image id.
	InUse func() map[digest.Digest][]string
	// Keep lists layers that others than images need: the build cache.
	Keep func() []digest.Digest
	// Insecure and Mirrors are the daemon's --insecure-registry and --registry-mirror; a mirror may name the registry it
	// stands for: "registry.example=https://mirror".
	Insecure, Mirrors []string
	// CertDirs hold CA files by registry host, read for each connection (docker's /etc/docker/certs.d).
	CertDirs []string
	// UserAgent is what registries are told: "kist/VERSION".
	UserAgent string
}

// Store is the images of one data root. It is safe for concurrent use.
type Store struct {
	content *content.Store
	layers  *layer.Store
	events  *event.Bus
	client  *registry.Client
	inUse   func() map[digest.Digest][]string
	keep    func() []digest.Digest
	catalog catalog
	trees   trees
	sending keyed.Turns[string] // by one push at a time each thing is sent to a repository

	records *keyed.Memo[digest.Digest, *record]
	indexes *keyed.Memo[digest.Digest, *ocispec.Index]
}

// Open opens the store and removes what an interrupted operation left.
func Open(o Options) (*Store, error) {
	client, err := registry.New(registry.Options{
		Insecure: o.Insecure, Mirrors: o.Mirrors, CertDirs: o.CertDirs, UserAgent: o.UserAgent,
	})
	if err != nil {
		return nil, err
	}
	blobs, err := content.Open(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		content: blobs, layers: o.Layers, events: o.Events, client: client, inUse: o.InUse, keep: o.Keep,
		records: keyed.NewMemo[digest.Digest, *record](keptBlobs), indexes: keyed.NewMemo[digest.Digest, *ocispec.Index](keptBlobs),
	}
	if s.events == nil {
		s.events = new(event.Bus)
	}
	if s.inUse == nil {
		s.inUse = func() map[digest.Digest][]string { return nil }
	}
	if s.keep == nil {
		s.keep = func() []digest.Digest { return nil }
	}
	if err := s.loadCatalog(); err != nil {
		return nil, err
	}
	return s, s.recover()
}

// recover drops what no name reaches: an operation that made it did not come to its end.
func (s *Store) recover() error {
	needed := s.reachable()
	layers := digests{}
	maps.Copy(layers, needed)
	layers.add(s.keep()...)
	ctx := context.Background()
	if _, err := s.layers.Collect(ctx, layers.has); err != nil {
		return fmt.Errorf("collect layers: %w", err)
	}
	needed.addNoted(s)
	if err := s.content.Recover(needed.has); err != nil {
		return err
	}
	s.mend(ctx)
	return nil
}

// mend unpacks layers of named images again that are gone: their blobs are the truth. An image that cannot be mended is
// damaged; the others are of use all the same.
func (s *Store) mend(ctx context.Context) {
	snap := s.catalog.snapshot()
	for _, e := range snap.entries {
		r, err := s.record(e.desc)
		if err != nil {
			continue // reachable has warned of it.
		}
		for i, l := range r.config.RootFS.DiffIDs {
			if s.layers.Has(l) {
				continue
			}
			if err := s.unpackBlob(ctx, r.manifest.Layers[i], l); err != nil {
				slog.Warn("a layer is gone and cannot be unpacked again: pull or build the image again", "image", e.id.String(), "layer", l.String(), "err", err)
			}
		}
	}
	s.layers.SyncBehind()
}

func (s *Store) unpackBlob(ctx context.Context, d ocispec.Descriptor, diffID digest.Digest) error {
	r, err := s.content.Open(d.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	return s.layers.Unpack(ctx, diffID, d.MediaType, r)
}

// digests is a set of blobs and layers.
type digests map[digest.Digest]struct{}

func (d digests) has(one digest.Digest) bool { _, ok := d[one]; return ok }

func (d digests) add(more ...digest.Digest) {
	for _, one := range more {
		d[one] = struct{}{}
	}
}

// addNoted adds the blobs of the layers that are there.
func (d digests) addNoted(s *Store) {
	for _, blob := range s.notedBlobs() {
		d.add(blob.Digest)
	}
}

// reachable is everything that some name needs.
func (s *Store) reachable() digests {
	set := digests{}
	snap := s.catalog.snapshot()
	for _, e := range snap.entries {
		s.markEntry(e, set)
	}
	for _, d := range snap.foreign {
		s.markForeign(d, set, 0)
	}
	for _, v := range snap.served {
		s.markForeign(v.desc, set, 0)
	}
	return set
}

// markEntry adds everything that the images of an entry need, and what of their index describes them.
func (s *Store) markEntry(e entry, set digests) {
	for _, p := range e.parts() {
		set.add(p.desc.Digest, p.id)
		r, err := s.record(p.desc)
		if err != nil {
			slog.Warn("an image is damaged", "image", p.id.String(), "name", e.name, "err", err)
			continue
		}
		r.mark(set)
	}
	if e.index.Digest == "" {
		return
	}
	set.add(e.index.Digest)
	for _, d := range s.statementsOf(e) {
		s.markForeign(d, set, 0)
	}
}

// collect deletes blobs and layers that nothing needs any more, and returns the bytes won.
func (s *Store) collect(ctx context.Context) (int64, error) {
	var fromLayers int64
	won, err := s.content.Sweep(func(leased content.Keep) (content.Keep, error) {
		needed := s.reachable()
		s.markUsed(needed)
		kept := digests{}
		kept.add(s.keep()...)
		var err error
		fromLayers, err = s.layers.Collect(ctx, func(d digest.Digest) bool { return leased(d) || needed.has(d) || kept.has(d) })
		needed.addNoted(s)
		return needed.has, err
	})
	if err != nil {
		return won + fromLayers, fmt.Errorf("collect images: %w", err)
	}
	return won + fromLayers, nil
}

// tidy removes what a failed operation has made: it has no name, so nobody knows that it is there. begun are the blobs that
// it may have left in part; a full disk has no room for anybody's. The lease must be released.
func (s *Store) tidy(cause error, begun digests) {
	full := errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EDQUOT)
	if err := s.content.DropPartials(func(d digest.Digest) bool { return full || begun.has(d) }); err != nil {
		slog.Warn("a failed operation left partial blobs behind", "err", err)
	}
	if _, err := s.collect(context.Background()); err != nil {
		slog.Warn("a failed operation left something behind", "err", err)
	}
}

// markUsed adds the images of containers: one may have been made from an image while its last name went.
func (s *Store) markUsed(set digests) {
	users := s.inUse()
	s.records.Each(func(r *record) {
		if len(users[r.id]) > 0 {
			r.mark(set)
		}
	})
}

// emit tells what happened to an image: actor is a name or an id.
func (s *Store) emit(action events.Action, actor, name string, labels map[string]string) {
	attributes := make(map[string]string, len(labels)+1)
	for k, v := range labels {
		attributes[k] = v
	}
	if name != "" {
		attributes["name"] = name
	}
	s.events.Emit(events.ImageEventType, action, actor, attributes)
}
