package layer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/sys"
)

// errNotOver says that a writable layer cannot be a layer over another one: it takes something away, or what it has is below
// already.
var errNotOver = fmt.Errorf("it is no addition to the layer that it was to lie over: %w", errdefs.ErrFailedPrecondition)

// MayUnder says whether Commit can make a layer over this one.
func (s *Store) MayUnder(diffID digest.Digest) bool {
	_, err := s.under(diffID)
	return err == nil
}

// under finds a layer that others may lie over: one that hides nothing and is whole by itself.
func (s *Store) under(diffID digest.Digest) (*unpacked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.layers[diffID]
	if l == nil {
		return nil, errNoLayer(diffID)
	}
	if !l.Plain || l.Under != "" || l.Tar == 0 || l.Root != nil {
		return nil, fmt.Errorf("layer %s cannot lie under another one: %w", diffID, errdefs.ErrFailedPrecondition)
	}
	return l, nil
}

// commitOver makes a layer of a writable one and of the layer under it, which fills in whatever the new one lacks.
func (s *Store) commitOver(ctx context.Context, id string, root *sys.Root, l *unpacked, t *settler, o CommitOptions) (Committed, error) {
	u, err := s.under(o.Under)
	if err != nil {
		return Committed{}, err
	}
	if t.removed || t.hides || l.Root != nil {
		return Committed{}, errNotOver
	}
	v, err := s.openVersions(root, u, o.Like)
	if err != nil {
		return Committed{}, err
	}
	defer v.close()
	l.Under, l.Linked = u.DiffID, t.linked || u.Linked
	if err := s.sumOver(ctx, id, v, l); err != nil {
		return Committed{}, err
	}
	if s.Has(l.DiffID) { // it is what was there, or nothing that a tar tells has changed
		if o.Hold != nil && !o.Hold.Take(l.DiffID) {
			return Committed{}, errNoLayer(l.DiffID)
		}
		size, err := s.Size(l.DiffID)
		return Committed{l.DiffID, size}, errors.Join(err, s.Remove(ctx, id))
	}
	return Committed{l.DiffID, l.Size + u.Size}, s.become(id, l, o.Hold)
}

// sumOver finds the digest and length of the tar of a layer and what it lies over. What comes before the first difference from the
// version before was hashed then.
func (s *Store) sumOver(ctx context.Context, id string, v *versions, l *unpacked) error {
	first, err := v.first()
	if err != nil {
		return err
	}
	opts := s.tarOptions(l)
	opts.Under = v.under
	sum := newSummer()
	var known []mark
	// Marks are never of layers in which a file has several names.
	if i := before(v.marks, first); i > 0 && sum.resume(v.marks[i-1]) == nil {
		known = v.marks[:i]
		opts.From = v.marks[i-1].Name
	} else {
		sum = newSummer()
	}
	if !l.Linked {
		opts.Mark, opts.MarkEvery = sum.mark, markEvery
	}
	err = archive.Tar(ctx, v.root, "/", sum.start(), opts)
	l.DiffID, l.Tar = sum.finish()
	if err != nil || l.Linked || s.Has(l.DiffID) {
		return err
	}
	return s.writeMarks("c/"+id+"/k", marks{l.DiffID, append(slices.Clip(known), sum.marks...)})
}

// openTree opens a layer's files for archiving. What it lies over is part of the options.
func (s *Store) openTree(l *unpacked) (*sys.Root, archive.TarOptions, func(), error) {
	o := s.tarOptions(l)
	root, err := sys.OpenRoot(s.dir + "/l/" + l.name + "/d")
	if err != nil {
		return nil, o, nil, err
	}
	if l.Under == "" {
		return root, o, func() { root.Close() }, nil
	}
	s.mu.Lock()
	u := s.layers[l.Under]
	s.mu.Unlock()
	if u == nil {
		root.Close()
		return nil, o, nil, errNoLayer(l.Under)
	}
	if o.Under, err = sys.OpenRoot(s.dir + "/l/" + u.name + "/d"); err != nil {
		root.Close()
		return nil, o, nil, err
	}
	return root, o, func() { root.Close(); o.Under.Close() }, nil
}

// Parts calls fn for each directory of layers that a layer needs, by the layer that it is, with the bytes that it occupies: itself,
// and what it lies over, which other layers may need as well. fn must not call the store.
func (s *Store) Parts(diffID digest.Digest, fn func(digest.Digest, int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for diffID != "" {
		l := s.layers[diffID]
		if l == nil {
			return
		}
		fn(diffID, l.Size)
		diffID = l.Under
	}
}

// size is what a layer and what it lies over occupy. Store.mu is held.
func (s *Store) size(l *unpacked) int64 {
	n := l.Size
	if u := s.layers[l.Under]; u != nil {
		n += u.Size
	}
	return n
}
