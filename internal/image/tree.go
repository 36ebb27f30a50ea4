package image

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/layer"
)

// Tree is an image as its layers, the lowest first.
type Tree struct {
	ID    string
	Names []string
	// Size is the bytes of all layers as they are unpacked, Wasted those of files that nobody sees. Wasted is measured only if it was asked for.
	Size, Wasted int64
	Steps        []Step
}

// Step is a step of an image's history.
type Step struct {
	CreatedBy, Comment string
	Created            int64 // seconds since 1970
	// Layer is empty if the step made none.
	Layer digest.Digest `json:",omitempty"`
	layer.Share
}

// trees remembers what was measured: images do not change.
type trees struct {
	mu   sync.Mutex // guards what follows
	kept map[digest.Digest][]layer.Share
}

// treesKept bounds what is remembered.
const treesKept = 256

// Trees are all images as their layers.
func (s *Store) Trees(context.Context) ([]Tree, error) {
	snap := s.catalog.snapshot()
	var list []Tree
	for _, id := range snap.ids {
		for _, e := range snap.of(id)[:1] {
			img, err := s.image(snap, e)
			if err != nil {
				continue // A damaged image is told of where it is asked for.
			}
			list = append(list, s.tree(img, nil))
		}
	}
	return list, nil
}

// Tree is one image, measured.
func (s *Store) Tree(ctx context.Context, ref string) (*Tree, error) {
	img, err := s.For(ctx, ref, nil)
	if err != nil {
		return nil, err
	}
	shares, err := s.shares(ctx, img)
	if err != nil {
		return nil, err
	}
	t := s.tree(img, shares)
	return &t, nil
}

// shares measures an image's layers, once.
func (s *Store) shares(ctx context.Context, img *Image) ([]layer.Share, error) {
	s.trees.mu.Lock()
	kept, ok := s.trees.kept[img.ID]
	s.trees.mu.Unlock()
	if ok {
		return kept, nil
	}
	h := s.layers.Hold()
	defer h.Release()
	if !h.Take(img.Layers...) {
		return nil, fmt.Errorf("a layer of image %s is not unpacked: %w", short(img.ID), errdefs.ErrNotFound)
	}
	shares, err := s.layers.Shares(ctx, img.Layers)
	if err != nil {
		return nil, err
	}
	s.trees.mu.Lock()
	defer s.trees.mu.Unlock()
	if s.trees.kept == nil || len(s.trees.kept) >= treesKept {
		s.trees.kept = map[digest.Digest][]layer.Share{}
	}
	s.trees.kept[img.ID] = shares
	return shares, nil
}

// tree joins an image's history with its layers.
func (s *Store) tree(img *Image, shares []layer.Share) Tree {
	t := Tree{ID: img.ID.String()}
	t.Names, _ = tagsAndDigests(img.Names)
	next := 0
	add := func(step Step) {
		step.Layer = img.Layers[next]
		if shares != nil {
			step.Share = shares[next]
		} else {
			step.Size, _ = s.layers.Size(step.Layer) // A layer that is gone has no size.
		}
		t.Size += step.Size
		t.Wasted += step.Wasted
		next++
		t.Steps = append(t.Steps, step)
	}
	for _, h := range img.Config.History {
		step := Step{CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			step.Created = h.Created.Unix()
		}
		if h.EmptyLayer || next == len(img.Layers) {
			t.Steps = append(t.Steps, step)
			continue
		}
		add(step)
	}
	for next < len(img.Layers) { // Tools may leave the history out.
		add(Step{})
	}
	return t
}
