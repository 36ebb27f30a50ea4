package fileop

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/layer"
)

// Merge stacks trees on each other, the lowest first: of a path that is in several the topmost counts, and what the layers
// of one remove is removed from those below it. Nothing is copied, but for directories in place.
func (o *Ops) Merge(ctx context.Context, inputs []Source, hold *layer.Hold) (*Result, error) {
	res := &Result{Outputs: make([]Output, 1)}
	out := &res.Outputs[0]
	for _, in := range inputs {
		one, err := o.Layers(ctx, in, hold)
		if err != nil {
			return nil, err
		}
		res.Unstable = res.Unstable || one.Unstable
		out.Layers = append(out.Layers, one.Outputs[0].Layers...)
		out.Added = append(out.Added, one.Outputs[0].Added...)
	}
	out.Layers = distinct(out.Layers)
	return res, nil
}

// distinct leaves a layer that comes several times only where it is topmost. Empty ones are rows of a history, and stay.
func distinct(layers []digest.Digest) []digest.Digest {
	seen := make(map[digest.Digest]bool, len(layers))
	var list []digest.Digest
	for _, id := range slices.Backward(layers) {
		if !seen[id] || id == layer.Empty {
			seen[id] = true
			list = append(list, id)
		}
	}
	slices.Reverse(list)
	return list
}

// Diff makes the tree that, merged onto lower, gives upper.
func (o *Ops) Diff(ctx context.Context, lower, upper Source, hold *layer.Hold) (_ *Result, err error) {
	below, err := o.Layers(ctx, lower, hold)
	if err != nil {
		return nil, err
	}
	above, err := o.Layers(ctx, upper, hold)
	if err != nil {
		return nil, err
	}
	res := &Result{Unstable: below.Unstable || above.Unstable, Outputs: make([]Output, 1)}
	a, b := below.Outputs[0].Layers, above.Outputs[0].Layers
	if len(b) >= len(a) && slices.Equal(a, b[:len(a)]) {
		res.Outputs[0].Layers = slices.Clone(b[len(a):])
		return res, nil
	}
	d, err := o.newDest(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := o.difference(ctx, d, b); err != nil {
		return nil, errors.Join(fmt.Errorf("difference of trees: %w", err), d.drop(context.WithoutCancel(ctx)))
	}
	made, err := d.commit(ctx, hold)
	if err != nil {
		return nil, err
	}
	if made.DiffID != "" {
		res.Outputs[0] = Output{Layers: []digest.Digest{made.DiffID}, Added: []layer.Committed{made}}
	}
	return res, nil
}
