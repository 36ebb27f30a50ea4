package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/layer"
)

// Outgoing is an image on its way to another store, held until Close.
type Outgoing struct {
	Image            *Image
	Config, Manifest []byte
	// Names that it has here, and that it is to have there.
	Names  []MovedName
	Layers []OutgoingLayer

	s     *Store
	lease *content.Lease
	hold  *layer.Hold
}

// MovedName is a name with the digest by which a registry knows what it stands for, if one does.
type MovedName struct {
	Name   string        `json:"name"`
	Source digest.Digest `json:"source,omitempty"`
}

// OutgoingLayer is one of its layers.
type OutgoingLayer struct {
	DiffID digest.Digest `json:"diffID"`
	// Blob is the layer in the manifest.
	Blob ocispec.Descriptor `json:"blob"`
	// Made layers were built by kist: their tar can be written from their files, here and there.
	Made    bool      `json:"made,omitempty"`
	Created time.Time `json:"created,omitzero"`
	// Plain says that the blob is the plain tar, whether it is stored or not.
	Plain bool `json:"plain,omitempty"`
	// Size is what the unpacked layer occupies.
	Size int64 `json:"size,omitempty"`
}

// Outgoing prepares an image for its way. By a name it goes with that one, by its id with all that it has.
func (s *Store) Outgoing(ctx context.Context, ref string) (_ *Outgoing, err error) {
	snap := s.catalog.snapshot()
	e, err := snap.find(ref)
	if err != nil {
		return nil, err
	}
	out := &Outgoing{s: s, lease: s.content.Lease(), hold: s.layers.Hold()}
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	if err := s.ready(ctx, e); err != nil {
		return nil, err
	}
	r, err := s.record(e.desc)
	if err != nil {
		return nil, err
	}
	set := digests{}
	r.mark(set)
	for d := range set {
		out.lease.Hold(d)
	}
	out.hold.Take(r.config.RootFS.DiffIDs...)
	if out.Image, err = s.image(s.catalog.snapshot(), e); err != nil {
		return nil, err
	}
	if out.Config, err = s.content.Bytes(r.id, configLimit); err != nil {
		return nil, err
	}
	if out.Manifest, err = s.content.Bytes(r.desc.Digest, manifestLimit); err != nil {
		return nil, err
	}
	out.Names = outgoingNames(snap, e, ref)
	for i, l := range r.manifest.Layers {
		one, err := s.outgoingLayer(r.config.RootFS.DiffIDs[i], l)
		if err != nil {
			return nil, err
		}
		out.Layers = append(out.Layers, one)
	}
	return out, nil
}

// outgoingNames are the tag that was asked for, or all of them, and the digests that their repositories have for the image.
func outgoingNames(snap *snapshot, e entry, ref string) []MovedName {
	full, err := fullName(ref)
	byName := err == nil && full == e.name
	var list []MovedName
	for _, o := range snap.of(e.id) {
		if o.name == "" || byName && o.name != e.name && (!isDigestName(o.name) || repository(o.name) != repository(e.name)) {
			continue
		}
		list = append(list, MovedName{o.name, o.source})
	}
	slices.SortFunc(list, func(a, b MovedName) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (s *Store) outgoingLayer(id digest.Digest, blob ocispec.Descriptor) (OutgoingLayer, error) {
	l := OutgoingLayer{DiffID: id, Blob: blob, Plain: blob.Digest == id}
	if _, err := s.layers.TarSize(id); err == nil {
		l.Made, l.Created = true, s.layers.Created(id)
	}
	if !l.Made && !s.content.Has(blob.Digest) {
		return l, fmt.Errorf("layer %s: its blob is missing: %w", id, errNoBlob)
	}
	size, err := s.layers.Size(id)
	l.Size = size
	return l, err
}

var errNoBlob = errors.New("pull the image again")

// Close ends the hold. It may be called twice.
func (o *Outgoing) Close() {
	o.hold.Release()
	o.lease.Release()
}

// Tar reads a layer's plain tar: one that was made here, or whose blob is one.
func (o *Outgoing) Tar(ctx context.Context, l *OutgoingLayer) (io.ReadCloser, error) {
	if l.Made {
		return o.s.openTar(ctx, l.DiffID), nil
	}
	return o.s.content.Open(l.Blob.Digest)
}

// Blob reads a layer's blob as it is stored, from a byte on. It is verified where it arrives.
func (o *Outgoing) Blob(l *OutgoingLayer, from int64) (io.ReadCloser, error) {
	f, err := o.s.content.File(l.Blob.Digest)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
