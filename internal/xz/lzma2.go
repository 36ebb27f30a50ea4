package xz

import (
	"encoding/binary"
	"io"
)

// step is how much is decoded between two slides of the window.
const step = 4 << 20

// lzma2 decodes the chunks of a block into a window.
type lzma2 struct {
	lzma
	src  io.Reader
	dict int
	w    []byte
	// begin is where the dictionary begins in w, at where it ends: what was decoded last lies before at.
	begin, at int
	// What the next chunk must bring: a fresh dictionary, properties, a fresh state.
	needDict, needProps, needState bool
	ended                          bool
	header                         [6]byte
}

// open begins a block.
func (d *lzma2) open(src io.Reader, dict int) {
	d.src, d.dict = src, dict
	d.begin, d.at, d.ended = 0, 0, false
	d.needDict, d.needProps, d.needState = true, true, true
}

// next decodes a chunk and returns what it holds, which stays valid until the next call. At the end of the block it is nil.
func (d *lzma2) next() ([]byte, error) {
	if d.ended {
		return nil, nil
	}
	h := d.header[:]
	if _, err := io.ReadFull(d.src, h[:1]); err != nil {
		return nil, err
	}
	control := h[0]
	switch {
	case control == 0:
		d.ended = true
		return nil, nil
	case control >= 0x80:
		return d.packed(control)
	case control <= 2:
		return d.stored(control == 1)
	}
	return nil, ErrCorrupt
}

// freshDict forgets what was decoded.
func (d *lzma2) freshDict() {
	d.begin, d.needDict = d.at, false
}

// stored takes a chunk that is not compressed.
func (d *lzma2) stored(fresh bool) ([]byte, error) {
	h := d.header[:2]
	if _, err := io.ReadFull(d.src, h); err != nil {
		return nil, err
	}
	if d.needDict && !fresh {
		return nil, ErrCorrupt
	}
	if fresh {
		d.freshDict()
	}
	n := int(binary.BigEndian.Uint16(h)) + 1
	d.room(n)
	part := d.w[d.at : d.at+n]
	if _, err := io.ReadFull(d.src, part); err != nil {
		return nil, err
	}
	d.at += n
	return part, nil
}

// packed decodes a chunk that is compressed.
func (d *lzma2) packed(control byte) ([]byte, error) {
	h := d.header[:4]
	reset := control >> 5 & 3
	if reset >= 2 {
		h = d.header[:5]
	}
	if _, err := io.ReadFull(d.src, h); err != nil {
		return nil, err
	}
	size := int(control&0x1f)<<16 + int(binary.BigEndian.Uint16(h)) + 1
	packed := int(binary.BigEndian.Uint16(h[2:])) + 1
	if err := d.prepare(reset, h); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(d.src, d.in[:packed]); err != nil {
		return nil, err
	}
	d.room(size)
	err := d.chunk(uint32(packed), d.w[:d.at+size+slack], d.begin, d.at, d.at+size, uint32(d.dict)) //nolint:gosec // bounded
	if err != nil {
		return nil, err
	}
	part := d.w[d.at : d.at+size]
	d.at += size
	return part, nil
}

// prepare resets what a chunk's header says, and what it must say.
func (d *lzma2) prepare(reset byte, h []byte) error {
	if reset == 3 {
		d.freshDict()
	}
	if d.needDict || d.needProps && reset < 2 || d.needState && reset < 1 {
		return ErrCorrupt
	}
	if reset >= 2 {
		if err := d.properties(h[4]); err != nil {
			return err
		}
		d.needProps = false
	}
	if reset >= 1 {
		d.reset()
		d.needState = false
	}
	return nil
}

// room makes place for n more bytes in the window, by growing it, or by sliding what lies too far back out of it.
func (d *lzma2) room(n int) {
	need := d.at + n + slack
	if need <= len(d.w) {
		return
	}
	full := d.dict + step + slack
	if need > full {
		// The dictionary's beginning keeps its place modulo 16, on which positions depend.
		keep := min(d.dict, d.at-d.begin)
		from := d.at - keep
		to := (from - d.begin) & 15
		copy(d.w[to:], d.w[from:d.at])
		d.begin, d.at = 0, to+keep
		need = d.at + n + slack
	}
	if need <= len(d.w) {
		return
	}
	grown := make([]byte, min(max(need, 2*len(d.w), 1<<18), max(full, need)))
	copy(grown, d.w[:d.at])
	d.w = grown
}
