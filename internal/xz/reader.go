package xz

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"hash/fnv"
	"io"
)

// Reader reads what xz streams, one after the other in one input, hold. It reads ahead and takes its input to the end;
// padding between and behind streams is accepted. Not for concurrent use.
type Reader struct {
	src   counted
	block lzma2
	chain []filter
	check check
	err   error
	// out is decoded and not read yet.
	out []byte
	// inBlock, inStream say where the input stands.
	inBlock, inStream bool
	header            blockHeader
	began             int64 // of the block's data
	size              int64 // of what the block holds, as far as it is known
	records           records
}

// NewReader makes a reader of src.
func NewReader(src io.Reader) *Reader {
	z := new(Reader)
	z.Reset(src)
	return z
}

// Reset makes the reader read src, as if new; the window is kept.
func (z *Reader) Reset(src io.Reader) {
	if z.src.r == nil {
		z.src.r = bufio.NewReaderSize(src, 64<<10)
	} else {
		z.src.r.Reset(src)
	}
	z.src.n, z.err, z.out, z.inBlock, z.inStream = 0, nil, nil, false, false
}

// counted counts what is read from the input.
type counted struct {
	r *bufio.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// Read reads uncompressed bytes. At io.EOF all checksums were right.
func (z *Reader) Read(p []byte) (int, error) {
	for len(z.out) == 0 {
		if z.err != nil {
			return 0, z.err
		}
		z.err = z.more()
	}
	n := copy(p, z.out)
	z.out = z.out[n:]
	return n, nil
}

// WriteTo writes all that is left to w, without copying it first.
func (z *Reader) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		if len(z.out) > 0 {
			n, err := w.Write(z.out)
			sum += int64(n)
			z.out = z.out[n:]
			if err != nil {
				return sum, err
			}
		}
		if z.err != nil {
			if errors.Is(z.err, io.EOF) {
				return sum, nil
			}
			return sum, z.err
		}
		z.err = z.more()
	}
}

// more takes the next step: into a stream, into a block, over a chunk, or out again.
func (z *Reader) more() error {
	switch {
	case !z.inStream:
		return z.openStream() // io.EOF where there is none
	case !z.inBlock:
		return broken(z.openBlock())
	}
	part, err := z.block.next()
	if err != nil {
		return broken(err)
	}
	if part == nil {
		return broken(z.closeBlock())
	}
	z.size += int64(len(part))
	if z.header.size >= 0 && z.size > z.header.size {
		return ErrCorrupt
	}
	if len(z.chain) == 0 {
		z.out = part
	} else {
		z.out = z.filtered(part, false)
	}
	z.check.write(z.out)
	return nil
}

// broken makes an end in the middle one that is told as such.
func broken(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var (
	headMagic = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	footMagic = []byte{'Y', 'Z'}
)

// openStream reads a stream's header; before it may be padding, four zeros at a time, if it is not the first.
func (z *Reader) openStream() error {
	var h [12]byte
	for {
		if _, err := io.ReadFull(&z.src, h[:4]); err != nil {
			if err == io.EOF && z.src.n > 0 {
				return io.EOF
			}
			return broken(err)
		}
		if z.src.n == 4 || h[0]|h[1]|h[2]|h[3] != 0 {
			break
		}
	}
	if _, err := io.ReadFull(&z.src, h[4:]); err != nil {
		return broken(err)
	}
	if !bytes.Equal(h[:6], headMagic) {
		return ErrHeader
	}
	if crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return ErrChecksum
	}
	if h[6] != 0 || h[7] > 15 {
		return ErrUnsupported
	}
	z.records = records{hash: fnv.New128a()}
	z.inStream = true
	var err error
	z.check, err = newCheck(h[7])
	return err
}

// closeBlock reads what stands behind a block's data and notes its sizes for the index.
func (z *Reader) closeBlock() error {
	if len(z.chain) > 0 {
		rest := z.filtered(nil, true)
		z.check.write(rest)
		z.out = rest
	}
	packed := z.src.n - z.began
	if z.header.packed >= 0 && packed != z.header.packed || z.header.size >= 0 && z.size != z.header.size {
		return ErrCorrupt
	}
	var pad [4]byte
	if err := z.zeros(pad[:-packed&3]); err != nil {
		return err
	}
	if err := z.check.verify(&z.src); err != nil {
		return err
	}
	z.records.add(int64(z.header.length)+packed+int64(z.check.size), z.size)
	z.inBlock = false
	return nil
}

// zeros reads bytes that must be zero.
func (z *Reader) zeros(p []byte) error {
	if _, err := io.ReadFull(&z.src, p); err != nil {
		return err
	}
	for _, b := range p {
		if b != 0 {
			return ErrCorrupt
		}
	}
	return nil
}

// records is what the index must say: as many blocks, of these sizes in this order.
type records struct {
	n    uint64
	hash hash.Hash
}

func (r *records) add(packed, size int64) {
	r.n++
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], uint64(packed)) //nolint:gosec // not negative
	binary.LittleEndian.PutUint64(b[8:], uint64(size))  //nolint:gosec // not negative
	r.hash.Write(b[:])
}
