package inflate

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// firstHeader reads the header of the first stream; an input of nothing is no gzip stream.
func (z *Reader) firstHeader() error {
	if z.fillInput(1); z.pos == z.end {
		if z.srcErr == nil {
			return io.ErrNoProgress
		}
		return z.srcErr
	}
	return z.header()
}

// nextHeader reads what follows a stream: the end, another stream, or padding up to the end.
func (z *Reader) nextHeader() error {
	for {
		if z.fillInput(1); z.pos == z.end {
			return z.srcErr // io.EOF if all is well
		}
		if z.in[z.pos] != 0 {
			return z.header()
		}
		if err := z.padding(); err != nil {
			return err
		}
	}
}

// padding skips zeros; nothing else may follow them.
func (z *Reader) padding() error {
	for z.pos < z.end {
		if z.in[z.pos] != 0 {
			return ErrHeader
		}
		z.pos++
	}
	if z.fillInput(1); z.pos < z.end {
		return z.padding()
	}
	return nil
}

const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
)

// headerReader reads a gzip header's bytes and sums them.
type headerReader struct {
	z   *Reader
	crc uint32
}

func (h *headerReader) bytes(n int) ([]byte, error) {
	if h.z.fillInput(n); h.z.end-h.z.pos < n {
		return nil, h.z.ended()
	}
	b := h.z.in[h.z.pos : h.z.pos+n]
	h.z.pos += n
	h.crc = crc32.Update(h.crc, crc32.IEEETable, b)
	return b, nil
}

// header reads RFC 1952's header. Name, comment and extra field are of no use here.
func (z *Reader) header() error {
	h := &headerReader{z: z}
	b, err := h.bytes(10)
	if err != nil {
		return err
	}
	if b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 {
		return ErrHeader
	}
	if err := h.optional(b[3]); err != nil {
		return err
	}
	z.crc, z.size, z.base, z.at = 0, 0, z.w, z.w
	z.step = (*Reader).block
	return nil
}

func (h *headerReader) optional(flags byte) error {
	if flags&flagExtra != 0 {
		b, err := h.bytes(2)
		if err != nil {
			return err
		}
		if _, err := h.bytes(int(binary.LittleEndian.Uint16(b))); err != nil {
			return err
		}
	}
	for _, f := range []byte{flagName, flagComment} {
		if flags&f == 0 {
			continue
		}
		if err := h.text(); err != nil {
			return err
		}
	}
	if flags&flagHeaderCRC == 0 {
		return nil
	}
	want := uint16(h.crc)
	b, err := h.bytes(2)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint16(b) != want {
		return ErrHeader
	}
	return nil
}

// maxText is how long a name may be; compress/gzip has the same limit.
const maxText = 512

func (h *headerReader) text() error {
	for range maxText {
		b, err := h.bytes(1)
		if err != nil {
			return err
		}
		if b[0] == 0 {
			return nil
		}
	}
	return ErrHeader
}
