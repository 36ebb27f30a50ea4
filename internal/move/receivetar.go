package move

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/chunk"
)

// small tars are not worth looking for pieces of them.
const small = 1 << 20

// tar receives a tar, and has consume read it. It must be read to its end.
func (r *receiving) tar(ctx context.Context, consume func(context.Context, io.Reader) error) error {
	m, err := r.hear(ctx)
	if err != nil {
		return err
	}
	if m.Tar == nil {
		return fmt.Errorf("the other daemon was to offer a tar: %w", errdefs.ErrInvalidArgument)
	}
	if m.Tar.Size > small {
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	mode := modeRecipe
	if r.pack.empty() && (r.stock.empty() || m.Tar.Size <= small) {
		mode = modeInline
	}
	if err := r.wire.say(&message{Mode: mode}); err != nil {
		return err
	}
	pr, pw := io.Pipe()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := consume(gctx, pr)
		_ = pr.CloseWithError(cause(err))
		return err
	})
	g.Go(func() error {
		out := bufio.NewWriterSize(pw, 512<<10)
		var err error
		if mode == modeInline {
			err = r.inline(gctx, out)
		} else {
			err = r.byRecipe(gctx, out)
		}
		err = errors.Join(err, out.Flush())
		_ = pw.CloseWithError(err)
		if errors.Is(err, errConsumed) {
			return nil // The reader says why.
		}
		return err
	})
	return g.Wait()
}

// errConsumed is what the writer of a tar gets whose reader has given up.
var errConsumed = errors.New("the reader of the tar has given up")

func cause(err error) error {
	if err == nil {
		return io.ErrClosedPipe
	}
	return fmt.Errorf("%w: %w", errConsumed, err)
}

// inline writes a tar that comes whole.
func (r *receiving) inline(ctx context.Context, out io.Writer) error {
	for {
		ops, err := r.frame(ctx, false)
		if err != nil || ops == nil {
			return err
		}
		for {
			op, err := ops.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if op.Bytes == nil {
				return fmt.Errorf("a piece was to come and did not: %w", errdefs.ErrInvalidArgument)
			}
			if _, err := out.Write(op.Bytes); err != nil {
				return err
			}
		}
	}
}

// frame reads a frame with operations, keeps it, and gives them; nil at the end. again says that its pieces may be read again.
func (r *receiving) frame(ctx context.Context, again bool) (*chunk.Reader, error) {
	k, b, err := r.next(ctx)
	if err != nil || k == kindEnd {
		return nil, err
	}
	if k != kindOps && k != kindPacked {
		return nil, unexpected(k)
	}
	raw, err := r.wire.unpack(k, b, r.opened)
	if err != nil {
		return nil, err
	}
	if k == kindPacked {
		r.opened = raw
	}
	indexed := raw
	if !again {
		indexed = nil
	}
	if err := r.pack.add(k, b, indexed); err != nil {
		return nil, fmt.Errorf("keep what is received: %w", err)
	}
	return chunk.NewReader(bytesReader(raw)), nil
}

// byRecipe writes a tar from its recipe: what is here, and what comes.
func (r *receiving) byRecipe(ctx context.Context, out io.Writer) error {
	spool, err := os.CreateTemp(r.dir, "recipe-*")
	if err != nil {
		return err
	}
	defer func() {
		_ = spool.Close()
		_ = os.Remove(spool.Name()) // The next move removes it at the latest.
	}()
	sums, err := r.recipe(ctx, spool)
	if err != nil {
		return err
	}
	lacking, err := r.needs(sums)
	if err != nil {
		return err
	}
	return r.follow(ctx, spool, out, lacking)
}

// recipe keeps a recipe, and returns its pieces in the order in which they appear first.
func (r *receiving) recipe(ctx context.Context, spool *os.File) ([]chunk.Sum, error) {
	var sums []chunk.Sum
	seen := map[chunk.Sum]struct{}{}
	for {
		k, b, err := r.next(ctx)
		if err != nil {
			return nil, err
		}
		if k == kindEnd {
			return sums, nil
		}
		if k != kindOps && k != kindPacked {
			return nil, unexpected(k)
		}
		if err := writeFrame(spool, k, b); err != nil {
			return nil, err
		}
		if r.opened, err = r.unpacked(k, b); err != nil {
			return nil, err
		}
		ops := chunk.NewReader(bytesReader(r.opened))
		for {
			op, err := ops.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			if _, ok := seen[op.Sum]; ok || !op.Piece {
				continue
			}
			if len(seen) == maxPieces {
				return nil, fmt.Errorf("a tar of more than %d pieces: %w", maxPieces, errdefs.ErrInvalidArgument)
			}
			seen[op.Sum] = struct{}{}
			sums = append(sums, op.Sum)
		}
	}
}

// maxPieces bounds what a recipe can make us hold in memory: some terabytes' worth.
const maxPieces = 50_000_000

// unpacked decompresses into a buffer that is used again and again.
func (r *receiving) unpacked(k kind, b []byte) ([]byte, error) {
	if k == kindOps {
		return append(r.opened[:0], b...), nil
	}
	return r.wire.unpack(k, b, r.opened)
}

func writeFrame(w io.Writer, k kind, b []byte) error {
	var head [5]byte
	head[0] = byte(k)
	binary.BigEndian.PutUint32(head[1:], uint32(len(b)))
	if _, err := w.Write(head[:]); err != nil {
		return fmt.Errorf("keep a recipe: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("keep a recipe: %w", err)
	}
	return nil
}

// needs tells the sender which pieces are not here.
func (r *receiving) needs(sums []chunk.Sum) (lacking int, err error) {
	const most = 64 << 10
	for len(sums) > 0 {
		part := sums[:min(len(sums), 8*most)]
		sums = sums[len(part):]
		bits := make([]byte, (len(part)+7)/8)
		for i, sum := range part {
			if !r.stock.has(sum) && !r.pack.has(sum) {
				bits[i/8] |= 1 << (i % 8)
				lacking++
			}
		}
		if err := r.wire.write(kindNeeds, bits); err != nil {
			return 0, err
		}
	}
	if err := r.wire.write(kindEnd, nil); err != nil {
		return 0, err
	}
	return lacking, r.wire.flush()
}

// follow writes what the recipe says.
func (r *receiving) follow(ctx context.Context, spool *os.File, out io.Writer, lacking int) error {
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	src := &wire{r: bufio.NewReaderSize(spool, 1<<20), opener: r.wire.opener}
	var room, opened []byte
	for {
		k, b, err := src.read(room)
		if errors.Is(err, errLost) { // The end of the file.
			break
		}
		if err != nil {
			return err
		}
		room = b
		raw, err := r.wire.unpack(k, b, opened)
		if err != nil {
			return err
		}
		if k == kindPacked {
			opened = raw
		}
		if err := r.followFrame(ctx, raw, out); err != nil {
			return err
		}
	}
	// Also when nothing is lacking the sender says that nothing more comes.
	if more, err := r.frame(ctx, true); err != nil || more != nil {
		return errors.Join(err, moreThanAsked(more, lacking))
	}
	return nil
}

func moreThanAsked(more *chunk.Reader, lacking int) error {
	if more == nil {
		return nil
	}
	return fmt.Errorf("more came than the %d pieces that were asked for: %w", lacking, errdefs.ErrInvalidArgument)
}

func (r *receiving) followFrame(ctx context.Context, raw []byte, out io.Writer) error {
	ops := chunk.NewReader(bytesReader(raw))
	for {
		op, err := ops.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b := op.Bytes
		if b == nil {
			if b, err = r.piece(ctx, op.Sum); err != nil {
				return err
			}
			if len(b) != op.Size {
				return fmt.Errorf("a piece of %d bytes has %d: %w", op.Size, len(b), errdefs.ErrInvalidArgument)
			}
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
}

// piece finds a piece, or waits for it: those that are lacking come in the order in which the recipe needs them.
func (r *receiving) piece(ctx context.Context, sum chunk.Sum) ([]byte, error) {
	if r.stock.has(sum) {
		return r.stock.read(sum)
	}
	for !r.pack.has(sum) {
		ops, err := r.frame(ctx, true)
		if err != nil {
			return nil, err
		}
		if ops == nil {
			return nil, fmt.Errorf("a piece was to come and did not: %w", errdefs.ErrInvalidArgument)
		}
	}
	return r.pack.read(sum)
}
