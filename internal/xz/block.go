package xz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// blockHeader is what is known of a block before its data; sizes that it does not tell are -1.
type blockHeader struct {
	length       int
	packed, size int64
}

// Filters by their numbers.
const (
	filterDelta = 0x03
	filterX86   = 0x04
	filterARM64 = 0x0a
	filterLZMA2 = 0x21
)

// openBlock reads a block's header, or the index if there is no further block.
func (z *Reader) openBlock() error {
	first, err := z.src.ReadByte()
	if err != nil {
		return err
	}
	if first == 0 {
		return z.closeStream()
	}
	h := make([]byte, (int(first)+1)*4)
	h[0] = first
	if _, err := io.ReadFull(&z.src, h[1:]); err != nil {
		return err
	}
	body, sum := h[:len(h)-4], h[len(h)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return ErrChecksum
	}
	z.header = blockHeader{length: len(h), packed: -1, size: -1}
	dict, err := z.readHeader(body)
	if err != nil {
		return err
	}
	z.block.open(&z.src, dict)
	z.check.reset()
	z.began, z.size, z.inBlock = z.src.n, 0, true
	return nil
}

// readHeader reads sizes and filters and returns the dictionary's size.
func (z *Reader) readHeader(body []byte) (dict int, err error) {
	r := bytes.NewReader(body[2:])
	flags := body[1]
	if flags&0x3c != 0 {
		return 0, ErrUnsupported
	}
	for _, s := range []struct {
		bit  byte
		size *int64
	}{{0x40, &z.header.packed}, {0x80, &z.header.size}} {
		if flags&s.bit == 0 {
			continue
		}
		v, err := number(r)
		if err != nil {
			return 0, headerError(err)
		}
		*s.size = int64(v) //nolint:gosec // of 63 bits
	}
	z.chain = nil
	n := int(flags&3) + 1
	for i := range n {
		id, props, err := readFilter(r)
		if err != nil {
			return 0, headerError(err)
		}
		if i == n-1 {
			if id != filterLZMA2 {
				return 0, ErrUnsupported
			}
			if dict, err = dictSize(props); err != nil {
				return 0, err
			}
			break
		}
		f, err := newFilter(id, props)
		if err != nil {
			return 0, err
		}
		z.chain = append([]filter{f}, z.chain...) // the last one is undone first
	}
	for r.Len() > 0 {
		if b, _ := r.ReadByte(); b != 0 {
			return 0, ErrUnsupported
		}
	}
	return dict, nil
}

// headerError makes the end of a header, whose checksum is right, what it is: a wrong header.
func headerError(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrCorrupt
	}
	return err
}

func readFilter(r *bytes.Reader) (id uint64, props []byte, err error) {
	if id, err = number(r); err != nil {
		return 0, nil, err
	}
	n, err := number(r)
	if err != nil {
		return 0, nil, err
	}
	if n > uint64(r.Len()) { //nolint:gosec // not negative
		return 0, nil, ErrCorrupt
	}
	props = make([]byte, n)
	_, err = io.ReadFull(r, props)
	return id, props, err
}

// dictSize reads LZMA2's properties.
func dictSize(props []byte) (int, error) {
	if len(props) != 1 || props[0] > 40 {
		return 0, ErrUnsupported
	}
	b := props[0]
	size := uint64(2|b&1) << (b/2 + 11)
	if size > MaxDictionary {
		return 0, ErrDictionary
	}
	return max(int(size), 4096), nil
}
