package move

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/chunk"
	"github.com/kistdev/kist/internal/fault"
)

// tarSource opens a tar; it may be opened twice, and must be the same then.
type tarSource func(ctx context.Context) (io.ReadCloser, error)

// tar sends a tar as the receiver wants it.
func (s *sending) tar(ctx context.Context, item string, size int64, open tarSource) error {
	if err := s.say(ctx, &message{Tar: &tarOffer{Size: size}}); err != nil {
		return err
	}
	m, err := s.hear(ctx)
	if err != nil {
		return err
	}
	switch m.Mode {
	case modeInline:
		s.size += size
		return s.visit(ctx, open, &inlineSender{batch: batch{s: s, ctx: ctx}, meter: s.meter(item, "sending", size)})
	case modeRecipe:
		s.size += size
		return s.recipe(ctx, item, size, open)
	}
	return fmt.Errorf("the other daemon wants a tar in the mode %q: %w", m.Mode, errdefs.ErrInvalidArgument)
}

// visitor takes a tar and sends something of it.
type visitor interface {
	chunk.Visitor
	end() error
}

func (s *sending) visit(ctx context.Context, open tarSource, v visitor) error {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	err = chunk.Tar(r, v)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	return v.end()
}

// batch collects operations until they are worth a frame.
type batch struct {
	s   *sending
	ctx context.Context //nolint:containedctx // lives as long as the one tar that it is for
	ops []byte
}

func (b *batch) sent() error {
	if len(b.ops) < batchSize {
		return nil
	}
	return b.flush()
}

func (b *batch) flush() error {
	if err := context.Cause(b.ctx); err != nil {
		return err
	}
	if len(b.ops) == 0 {
		return nil
	}
	err := b.s.wire.ops(b.ops)
	b.ops = b.ops[:0]
	return err
}

func (b *batch) end() error {
	if err := b.flush(); err != nil {
		return err
	}
	return b.s.wireEnd()
}

// inlineSender sends all of a tar.
type inlineSender struct {
	batch
	meter *meter
}

func (v *inlineSender) Literal(b []byte) error {
	v.meter.add(len(b))
	v.ops = chunk.AppendLiteral(v.ops, b)
	return v.sent()
}

func (v *inlineSender) Piece(b []byte) error {
	v.meter.add(len(b))
	v.ops = chunk.AppendBytes(v.ops, b)
	return v.sent()
}

// recipe sends a tar's recipe, hears which pieces are needed, and sends those.
func (s *sending) recipe(ctx context.Context, item string, size int64, open tarSource) error {
	r := &recipeSender{batch: batch{s: s, ctx: ctx}, known: map[chunk.Sum]int32{}, meter: s.meter(item, "comparing", size)}
	if err := s.visit(ctx, open, r); err != nil {
		return err
	}
	needed, bytes, err := s.needs(ctx, r)
	if err != nil {
		return err
	}
	if bytes == 0 {
		return s.wireEnd()
	}
	return s.visit(ctx, open, &pieceSender{batch: batch{s: s, ctx: ctx}, recipe: r, needed: needed, meter: s.meter(item, "sending", bytes)})
}

func (s *sending) wireEnd() error {
	if err := s.wire.write(kindEnd, nil); err != nil {
		return err
	}
	return s.wire.flush()
}

// recipeSender sends a recipe and remembers its pieces.
type recipeSender struct {
	batch
	known map[chunk.Sum]int32 // number of each piece, by first appearance
	sums  []chunk.Sum         // by number
	sizes []int32             // by number
	order []int32             // of the tar's pieces
	meter *meter
}

func (v *recipeSender) Literal(b []byte) error {
	v.meter.add(len(b))
	v.ops = chunk.AppendLiteral(v.ops, b)
	return v.sent()
}

func (v *recipeSender) Piece(b []byte) error {
	v.meter.add(len(b))
	sum := chunk.SumOf(b)
	n, ok := v.known[sum]
	if !ok {
		n = int32(len(v.sums))
		v.known[sum] = n
		v.sums, v.sizes = append(v.sums, sum), append(v.sizes, int32(len(b)))
	}
	v.order = append(v.order, n)
	v.ops = chunk.AppendPiece(v.ops, len(b), sum)
	return v.sent()
}

// needs reads which pieces the receiver lacks, and how many bytes they are.
func (s *sending) needs(ctx context.Context, r *recipeSender) (needed []bool, bytes int64, err error) {
	needed = make([]bool, len(r.sums))
	at := 0
	for {
		k, b, err := s.next(ctx)
		if err != nil {
			return nil, 0, err
		}
		if k == kindEnd {
			return needed, bytes, nil
		}
		if k != kindNeeds {
			return nil, 0, unexpected(k)
		}
		for _, bits := range b {
			for i := range 8 {
				if bits>>i&1 == 0 {
					continue
				}
				if at+i >= len(needed) {
					return nil, 0, fmt.Errorf("the other daemon wants a piece that does not exist: %w", errdefs.ErrInvalidArgument)
				}
				needed[at+i] = true
				bytes += int64(r.sizes[at+i])
			}
			at += 8
		}
	}
}

// pieceSender sends those pieces that are needed, each once, in the order of the tar.
type pieceSender struct {
	batch
	recipe *recipeSender
	needed []bool
	at     int
	meter  *meter
}

func (v *pieceSender) Literal([]byte) error { return context.Cause(v.ctx) }

func (v *pieceSender) Piece(b []byte) error {
	if v.at == len(v.recipe.order) {
		return errChanged
	}
	n := v.recipe.order[v.at]
	v.at++
	if !v.needed[n] {
		return nil
	}
	v.needed[n] = false
	if chunk.SumOf(b) != v.recipe.sums[n] {
		return errChanged
	}
	v.meter.add(len(b))
	v.ops = chunk.AppendBytes(v.ops, b)
	return v.sent()
}

// errChanged is about files that somebody writes to.
var errChanged = &fault.Error{
	Code: "move-source-changed", What: "what is being moved was changed meanwhile", Class: errdefs.ErrConflict,
	Try: "stop what writes to it, and run the command again: it goes on where it was",
}
