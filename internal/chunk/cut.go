package chunk

import (
	"errors"
	"io"
	"math/bits"

	"lukechampine.com/blake3"
)

// Sizes of pieces. A file's last piece may be smaller than Min.
const (
	Min     = 16 << 10
	Average = 64 << 10
	Max     = 256 << 10
)

// Sum tells pieces apart: BLAKE3, which is several times faster than SHA-256 on machines without instructions for that one.
type Sum [32]byte

// SumOf sums up a piece.
func SumOf(b []byte) Sum { return blake3.Sum256(b) }

// gear has a random number for each byte. Two machines cut alike because the numbers are made the same way on both; were they
// not, they would only find less in common.
var gear = makeGear()

func makeGear() (table [256]uint64) {
	x := uint64(0x6b697374) // splitmix64
	for i := range table {
		x += 0x9e3779b97f4a7c15
		z := x
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		table[i] = z ^ z>>31
	}
	return table
}

// Masks for where a piece may end: more bits before the average size than behind it draw the sizes together. The high bits
// are asked, which the most bytes have gone into.
var (
	maskBefore = highBits(bits.Len(uint(Average)) + 1)
	maskBehind = highBits(bits.Len(uint(Average)) - 3)
)

func highBits(n int) uint64 { return ^uint64(0) << (64 - n) }

// cut returns the length of the first piece of b, which must have Max bytes unless the content ends there.
func cut(b []byte) int {
	if len(b) <= Min {
		return len(b)
	}
	b = b[:min(len(b), Max)]
	var h uint64
	i, middle := Min, min(len(b), Average)
	for ; i < middle; i++ {
		h = h<<1 + gear[b[i]]
		if h&maskBefore == 0 {
			return i + 1
		}
	}
	for ; i < len(b); i++ {
		h = h<<1 + gear[b[i]]
		if h&maskBehind == 0 {
			return i + 1
		}
	}
	return len(b)
}

// Split calls fn for each piece of what r reads, until fn returns an error. The piece is valid until fn returns.
func Split(r io.Reader, fn func(piece []byte) error) error {
	c := cutter{}
	if err := c.readFrom(r, fn); err != nil {
		return err
	}
	return c.end(fn)
}

// cutter cuts what is written to it.
type cutter struct {
	buf []byte // room for several pieces; what is at its start has not been given yet
	n   int
}

const cutterRoom = 4 * Max

// readFrom gives the pieces that are certain.
func (c *cutter) readFrom(r io.Reader, fn func([]byte) error) error {
	c.grow()
	for {
		n, err := r.Read(c.buf[c.n:])
		c.n += n
		if c.n == len(c.buf) {
			if err := c.give(Max, fn); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *cutter) grow() {
	if c.buf == nil {
		c.buf = make([]byte, cutterRoom)
	}
}

// add takes content.
func (c *cutter) add(p []byte, fn func([]byte) error) error {
	if len(p) > 0 {
		c.grow()
	}
	for len(p) > 0 {
		n := copy(c.buf[c.n:], p)
		c.n += n
		p = p[n:]
		if c.n == len(c.buf) {
			if err := c.give(Max, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// give gives pieces as long as at least least bytes are there.
func (c *cutter) give(least int, fn func([]byte) error) error {
	at := 0
	for c.n-at >= least && c.n > at {
		n := cut(c.buf[at:c.n])
		if err := fn(c.buf[at : at+n]); err != nil {
			return err
		}
		at += n
	}
	if at > 0 {
		c.n = copy(c.buf, c.buf[at:c.n])
	}
	return nil
}

// end gives the rest: the content ends here.
func (c *cutter) end(fn func([]byte) error) error { return c.give(1, fn) }
