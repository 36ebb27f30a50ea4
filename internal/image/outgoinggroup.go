package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Group is what makes several platforms' images one thing: their index, and what it has about them.
type Group struct {
	// Others are the images beside the one that goes with the group. They are there before it.
	Others []digest.Digest
	// Index is the index as it is stored, of the media type Kind; empty if there is none.
	Index []byte
	Kind  string
	// Statements are the blobs of the attestations.
	Statements [][]byte
}

// groupLimit bounds the statements that go with a group.
const groupLimit = 8 << 20

// Group describes what a reference stands for beside its image for this host; nil if that is nothing.
func (s *Store) Group(_ context.Context, ref string) (*Group, error) {
	e, err := s.catalog.snapshot().find(ref)
	if err != nil || len(e.others) == 0 && e.index.Digest == "" {
		return nil, err
	}
	g := &Group{}
	for _, p := range e.others {
		g.Others = append(g.Others, p.id)
	}
	if e.index.Digest == "" {
		return g, nil
	}
	if g.Index, err = s.content.Bytes(e.index.Digest, manifestLimit); err != nil {
		g.Index = nil
		return g, nil //nolint:nilerr // An older version that opened the store did not keep it.
	}
	g.Kind = e.index.MediaType
	room := groupLimit
	for _, d := range s.statementsOf(e) {
		blobs, ok := s.statementBlobs(d, room)
		if !ok {
			continue // It was not pulled, or is too large for a message.
		}
		for _, b := range blobs {
			room -= len(b)
		}
		g.Statements = append(g.Statements, blobs...)
	}
	return g, nil
}

// statementBlobs reads a statement's manifest and all that it names, if that is here and not too large.
func (s *Store) statementBlobs(d ocispec.Descriptor, room int) ([][]byte, bool) {
	m, ok := s.hasStatement(d)
	if !ok {
		return nil, false
	}
	var list [][]byte
	for _, b := range append([]ocispec.Descriptor{d, m.Config}, m.Layers...) {
		raw, err := s.content.Bytes(b.Digest, int64(max(room, 0)))
		if err != nil {
			return nil, false
		}
		room -= len(raw)
		list = append(list, raw)
	}
	return list, true
}

// group stores a group's blobs, and gives back the index if it names an image that has come with its manifest as it was.
func (in *Incoming) group(ctx context.Context, g *Group, d ocispec.Descriptor) (ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	if g == nil || len(g.Index) == 0 || !isIndex(g.Kind) {
		return none, nil
	}
	index, err := parseIndex(g.Index)
	if err != nil {
		return none, err
	}
	if !slices.ContainsFunc(index.Manifests, func(m ocispec.Descriptor) bool { return m.Digest == d.Digest }) {
		return none, nil
	}
	top := describe(g.Kind, g.Index)
	for _, raw := range append([][]byte{g.Index}, g.Statements...) {
		b := describe("", raw)
		in.lease.Hold(b.Digest)
		if err := in.s.putBlob(ctx, b, raw); err != nil {
			return none, fmt.Errorf("store the index: %w", err)
		}
	}
	return top, nil
}

// join adds to an image that has come those that belong to it.
func (s *Store) join(ed *editor, e entry, g *Group) (entry, error) {
	if g == nil {
		return e, nil
	}
	list := []part{}
	for _, id := range g.Others {
		for _, o := range ed.entries {
			i := slices.IndexFunc(o.parts(), func(p part) bool { return p.id == id })
			if i >= 0 {
				list = append(list, o.parts()[i])
				break
			}
		}
	}
	return s.arrange(e, append(list, part{e.id, e.desc}))
}
