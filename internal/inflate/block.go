package inflate

import (
	"encoding/binary"
	"io"
)

// block reads a block's header.
func (z *Reader) block() error {
	if z.final {
		z.final = false
		z.step = (*Reader).trailer
		return nil
	}
	if err := z.need(3); err != nil {
		return err
	}
	z.final = z.take(1) == 1
	switch z.take(2) {
	case 0:
		return z.storedHeader()
	case 1:
		z.step = (*Reader).huffman
		return z.fixedCodes()
	case 2:
		z.step = (*Reader).huffman
		return z.dynamicCodes()
	}
	return ErrCorrupt
}

func (z *Reader) storedHeader() error {
	z.unread()
	if z.fillInput(4); z.end-z.pos < 4 {
		return z.ended()
	}
	n, inverse := binary.LittleEndian.Uint16(z.in[z.pos:]), binary.LittleEndian.Uint16(z.in[z.pos+2:])
	if n != ^inverse {
		return ErrCorrupt
	}
	z.pos += 4
	z.stored = int(n)
	z.step = (*Reader).copyStored
	return nil
}

// copyStored copies what a stored block holds as far as there is room.
func (z *Reader) copyStored() error {
	for z.stored > 0 && z.w < history+outRoom {
		if z.fillInput(1); z.pos == z.end {
			return z.ended()
		}
		n := copy(z.out[z.w:history+outRoom], z.in[z.pos:min(z.end, z.pos+z.stored)])
		z.pos += n
		z.w += n
		z.stored -= n
	}
	if z.stored == 0 {
		z.step = (*Reader).block
	}
	return nil
}

func (z *Reader) fixedCodes() error {
	if z.fixed {
		return nil
	}
	l := z.lengths[:288]
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	if err := z.litTable(l); err != nil {
		return err
	}
	d := z.lengths[:32]
	for i := range d {
		d[i] = 5
	}
	z.fixed = true
	return z.distTable(d)
}

func (z *Reader) litTable(lengths []uint8) error {
	if !z.codes.sort(lengths) {
		return ErrCorrupt
	}
	z.codes.build(z.lit[:], litBits, exceptional, exceptional|linkFlag, litEntry)
	pair(&z.lit)
	return nil
}

func (z *Reader) distTable(lengths []uint8) error {
	if !z.codes.sort(lengths) {
		return ErrCorrupt
	}
	z.codes.build(z.dist[:], distBits, distExcept, distExcept|distLink, distEntry)
	return nil
}

// order is in which the lengths of the code lengths' own code come.
var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicCodes reads a block's own codes.
func (z *Reader) dynamicCodes() error {
	z.fixed = false
	if err := z.need(14); err != nil {
		return err
	}
	nlit, ndist, n := int(z.take(5))+257, int(z.take(5))+1, int(z.take(4))+4
	if nlit > maxLit || ndist > maxDist {
		return ErrCorrupt
	}
	var own [19]uint8
	for i := range n {
		if err := z.need(3); err != nil {
			return err
		}
		own[order[i]] = uint8(z.take(3))
	}
	if !z.codes.sort(own[:]) {
		return ErrCorrupt
	}
	// The table of distances is not in use yet: 7 bits fit into it.
	z.codes.build(z.dist[:], 7, 0, 0, func(sym int, n uint32) entry { return entry(sym)<<8 | n })
	if err := z.codeLengths(nlit + ndist); err != nil {
		return err
	}
	if err := z.litTable(z.lengths[:nlit]); err != nil {
		return err
	}
	return z.distTable(z.lengths[nlit : nlit+ndist])
}

// codeLengths reads the lengths of n codes.
func (z *Reader) codeLengths(n int) error {
	for i := 0; i < n; {
		e, err := z.lengthSymbol()
		if err != nil {
			return err
		}
		sym := uint8(e >> 8)
		if sym < 16 {
			z.lengths[i] = sym
			i++
			continue
		}
		value, times, err := z.repeat(sym, i)
		if err != nil {
			return err
		}
		if i+times > n {
			return ErrCorrupt
		}
		for range times {
			z.lengths[i] = value
			i++
		}
	}
	return nil
}

// lengthSymbol decodes one symbol of the code lengths' code.
func (z *Reader) lengthSymbol() (entry, error) {
	for n := uint(1); ; n++ {
		err := z.need(max(n, min(z.count, 7)))
		if err != nil {
			return 0, err
		}
		e := z.dist[z.bits&127]
		if e == 0 {
			if n >= 7 || z.count >= 7 {
				return 0, ErrCorrupt
			}
			continue
		}
		if uint(e&15) <= z.count {
			z.take(uint(e & 15))
			return e, nil
		}
	}
}

// repeat decodes what the symbols 16 to 18 repeat, and how often.
func (z *Reader) repeat(sym uint8, i int) (uint8, int, error) {
	extra, least, value := uint(2), 3, uint8(0)
	switch sym {
	case 16:
		if i == 0 {
			return 0, 0, ErrCorrupt
		}
		value = z.lengths[i-1]
	case 17:
		extra = 3
	default:
		extra, least = 7, 11
	}
	if err := z.need(extra); err != nil {
		return 0, 0, err
	}
	return value, least + int(z.take(extra)), nil
}

var _ io.Reader = (*Reader)(nil)
