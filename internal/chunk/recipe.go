package chunk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
)

// A recipe is a sequence of operations, each a byte and what belongs to it.
//
//	0x01 length bytes         a literal
//	0x02 length sum           a piece by its sum
//	0x03 length bytes         a piece itself
//
// Lengths are unsigned varints.
const (
	opLiteral = 1
	opPiece   = 2
	opBytes   = 3
)

// Op is one operation of a recipe.
type Op struct {
	// Bytes are a literal, or a piece if Piece is set; nil for a piece that is known by its sum only.
	Bytes []byte
	// Piece says that it is a piece: of Size bytes, with this sum.
	Piece bool
	Size  int
	Sum   Sum
}

// AppendLiteral adds a literal to a recipe.
func AppendLiteral(to, b []byte) []byte {
	return append(binary.AppendUvarint(append(to, opLiteral), uint64(len(b))), b...)
}

// AppendPiece adds a piece by its sum.
func AppendPiece(to []byte, size int, sum Sum) []byte {
	return append(binary.AppendUvarint(append(to, opPiece), uint64(size)), sum[:]...)
}

// AppendBytes adds a piece itself.
func AppendBytes(to, b []byte) []byte {
	return append(binary.AppendUvarint(append(to, opBytes), uint64(len(b))), b...)
}

// Reader reads a recipe.
type Reader struct {
	r   *bufio.Reader
	buf []byte
}

// NewReader reads a recipe from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 32<<10)} }

var errRecipe = fmt.Errorf("a recipe is broken: %w", errdefs.ErrInvalidArgument)

// Next returns the next operation, whose bytes are valid until the one after it, or io.EOF. What breaks the rules is an
// errdefs.ErrInvalidArgument.
func (r *Reader) Next() (Op, error) {
	kind, err := r.r.ReadByte()
	if err != nil {
		return Op{}, err
	}
	size, err := r.length()
	if err != nil {
		return Op{}, err
	}
	if size == 0 || size > Max || kind == opLiteral && size > literalRoom {
		return Op{}, errRecipe
	}
	switch kind {
	case opPiece:
		op := Op{Piece: true, Size: size}
		if _, err := io.ReadFull(r.r, op.Sum[:]); err != nil {
			return Op{}, broken(err)
		}
		return op, nil
	case opLiteral, opBytes:
		if r.buf == nil {
			r.buf = make([]byte, Max)
		}
		b := r.buf[:size]
		if _, err := io.ReadFull(r.r, b); err != nil {
			return Op{}, broken(err)
		}
		op := Op{Bytes: b, Size: size, Piece: kind == opBytes}
		if op.Piece {
			op.Sum = SumOf(b)
		}
		return op, nil
	}
	return Op{}, errRecipe
}

// length reads a number of at most three bytes, which is more than any length has.
func (r *Reader) length() (n int, err error) {
	for shift := 0; shift < 21; shift += 7 {
		b, err := r.r.ReadByte()
		if err != nil {
			return 0, broken(err)
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errRecipe
}

// broken tells a recipe that ends too early from one that cannot be read.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", errRecipe, io.ErrUnexpectedEOF)
	}
	return err
}
