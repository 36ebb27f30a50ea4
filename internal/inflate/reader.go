package inflate

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// Errors of a stream that is no gzip stream, or a damaged one. A stream that ends early is io.ErrUnexpectedEOF.
var (
	ErrHeader   = errors.New("gzip: invalid header")
	ErrCorrupt  = errors.New("gzip: corrupt data")
	ErrChecksum = errors.New("gzip: invalid checksum")
)

const (
	history  = 32 << 10 // how far a match reaches back
	outRoom  = 128 << 10
	maxMatch = 258
	outSlack = maxMatch + 64 // more than what the fast loop may write beyond where it stops
	inRoom   = 64 << 10
	inSlack  = 32 // below this the fast loop stops
)

// Reader reads what gzip streams, one after the other in one input, hold. It reads ahead and takes its input to the end;
// zeros after the last stream, padding of tapes, are accepted. Not for concurrent use.
type Reader struct {
	src    io.Reader
	srcErr error // why src gives no more

	in       []byte // input read ahead
	pos, end int
	bits     uint64 // next bits, the first one lowest
	count    uint   // how many of them are valid

	out  []byte // window: history, then what was decoded
	r, w int    // decoded and not yet read
	base int    // matches must not reach before this
	at   int    // up to here the checksum goes

	step   func(*Reader) error
	final  bool // the block is its stream's last
	stored int  // bytes left in a stored block
	crc    uint32
	size   uint32 // bytes of this stream, as gzip counts
	err    error  // delivered once what was decoded before is read

	lit     [litSize]entry
	dist    [distSize]entry
	codes   codes
	lengths [maxLit + maxDist + 32]uint8
	fixed   bool // the tables hold the fixed codes
}

// NewReader makes a reader of src.
func NewReader(src io.Reader) *Reader {
	z := &Reader{in: make([]byte, inRoom), out: make([]byte, history+outRoom+outSlack)}
	z.Reset(src)
	return z
}

// Reset makes the reader read src, as if new.
func (z *Reader) Reset(src io.Reader) {
	z.src, z.srcErr, z.err = src, nil, nil
	z.pos, z.end, z.bits, z.count = 0, 0, 0, 0
	z.r, z.w, z.base, z.at = 0, 0, 0, 0
	z.step = (*Reader).firstHeader
}

// Read reads uncompressed bytes. At io.EOF all checksums were right.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for z.r == z.w {
		if z.err != nil {
			return 0, z.err
		}
		z.decode()
	}
	n := copy(p, z.out[z.r:z.w])
	z.r += n
	return n, nil
}

// decode fills the window, whose content has been read.
func (z *Reader) decode() {
	if z.w > history {
		z.slide()
	}
	for z.err == nil && z.w < history+outRoom {
		z.err = z.step(z)
	}
	z.sum()
}

// slide moves the last bytes to where the window begins.
func (z *Reader) slide() {
	by := z.w - history
	copy(z.out[:history], z.out[by:z.w])
	z.w, z.r, z.at = history, history, history
	z.base = max(z.base-by, 0)
}

// sum takes what was decoded since into the checksum.
func (z *Reader) sum() {
	z.crc = crc32.Update(z.crc, crc32.IEEETable, z.out[z.at:z.w])
	z.size += uint32(z.w - z.at)
	z.at = z.w
}

// fillInput has at least n bytes of input ready, unless there are no more.
func (z *Reader) fillInput(n int) {
	if z.end-z.pos >= n || z.srcErr != nil {
		return
	}
	// Whole bytes in the bit buffer can be taken back: they stay.
	keep := max(z.pos-8, 0)
	copy(z.in, z.in[keep:z.end])
	z.pos, z.end = z.pos-keep, z.end-keep
	for empty := 0; z.end-z.pos < n && z.srcErr == nil; {
		m, err := z.src.Read(z.in[z.end:])
		z.end += m
		z.srcErr = err
		if m > 0 {
			empty = 0
		} else if empty++; empty > 100 && err == nil {
			z.srcErr = io.ErrNoProgress
		}
	}
}

// ended is the error of input that is not there.
func (z *Reader) ended() error {
	if z.srcErr == nil || errors.Is(z.srcErr, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return z.srcErr
}

// unread gives whole bytes in the bit buffer back and drops the rest of the current one.
func (z *Reader) unread() {
	z.pos -= int(z.count / 8)
	z.bits, z.count = 0, 0
}

// need has n bits, at most 48, in the bit buffer.
func (z *Reader) need(n uint) error {
	for z.count < n {
		if z.pos == z.end {
			if z.fillInput(1); z.pos == z.end {
				return z.ended()
			}
		}
		z.bits |= uint64(z.in[z.pos]) << z.count
		z.pos++
		z.count += 8
	}
	return nil
}

// take consumes n bits that are there.
func (z *Reader) take(n uint) uint32 {
	v := uint32(z.bits & (1<<n - 1))
	z.bits >>= n
	z.count -= n
	return v
}

// trailer checks the end of a gzip stream.
func (z *Reader) trailer() error {
	z.unread()
	z.sum()
	if z.fillInput(8); z.end-z.pos < 8 {
		return z.ended()
	}
	t := z.in[z.pos:]
	if binary.LittleEndian.Uint32(t) != z.crc || binary.LittleEndian.Uint32(t[4:]) != z.size {
		return ErrChecksum
	}
	z.pos += 8
	z.step = (*Reader).nextHeader
	return nil
}
