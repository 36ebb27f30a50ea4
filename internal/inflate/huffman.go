package inflate

import (
	"encoding/binary"
	"unsafe"
)

// huffman decodes a block's symbols until the block ends or the window is full.
func (z *Reader) huffman() error {
	for z.w < history+outRoom {
		z.fillInput(inSlack * 4)
		var ended bool
		var err error
		if z.end-z.pos >= inSlack {
			ended, err = z.fast()
		} else {
			ended, err = z.careful()
		}
		if err != nil {
			return err
		}
		if ended {
			z.step = (*Reader).block
			return nil
		}
	}
	return nil
}

// fast decodes while there are inSlack bytes of input and room for the longest match, copied in words. It reports
// whether the block has ended.
//
// It reads and writes by pointer, because checking each index costs a fifth of the speed. What keeps it in bounds: a
// round reads at most 16 bytes from pos, which inSlack covers; it writes at most 6 literals and a match and a word more
// from w, which outSlack covers; and a match begins at z.base or later, as its distance is checked.
func (z *Reader) fast() (ended bool, err error) {
	in, out := unsafe.Pointer(unsafe.SliceData(z.in)), unsafe.Pointer(unsafe.SliceData(z.out))
	lit, dist := &z.lit, &z.dist
	pos, bits, count, w, base := z.pos, z.bits, z.count, z.w, z.base
	inLimit := z.end - inSlack
	const outLimit = history + outRoom
	for pos <= inLimit && w < outLimit {
		// At least 56 bits.
		bits |= load64(in, pos) << (count & 63)
		pos += int((63 - count) >> 3 & 7)
		count |= 56

		e := lit[bits&(1<<litBits-1)]
		if e&literal != 0 {
			// Three lookups take 33 bits at most.
			store16(out, w, uint16(e>>8))
			w += int(e >> 24 & 3)
			bits >>= e & 15
			count -= uint(e & 15)
			e = lit[bits&(1<<litBits-1)]
			if e&literal != 0 {
				store16(out, w, uint16(e>>8))
				w += int(e >> 24 & 3)
				bits >>= e & 15
				count -= uint(e & 15)
				e = lit[bits&(1<<litBits-1)]
				if e&literal != 0 {
					store16(out, w, uint16(e>>8))
					w += int(e >> 24 & 3)
					bits >>= e & 15
					count -= uint(e & 15)
					continue
				}
			}
			bits |= load64(in, pos) << (count & 63)
			pos += int((63 - count) >> 3 & 7)
			count |= 56
		}
		if e&exceptional != 0 {
			if e&linkFlag != 0 {
				bits >>= litBits
				count -= litBits
				e = lit[(e>>16&0xfff)+uint32(bits)&(1<<(e>>8&15)-1)]
				if e&literal != 0 {
					store16(out, w, uint16(e>>8))
					w++
					bits >>= e & 15
					count -= uint(e & 15)
					continue
				}
			}
			if e&exceptional != 0 {
				if e&endFlag == 0 {
					err = ErrCorrupt
					break
				}
				bits >>= e & 15
				count -= uint(e & 15)
				ended = true
				break
			}
		}
		length := int(e>>16&0x1ff) + int(bits&(1<<(e&31)-1)>>(e>>8&15))
		bits >>= e & 31
		count -= uint(e & 31)

		d := dist[bits&(1<<distBits-1)]
		if d&distExcept != 0 {
			if d&distLink == 0 {
				err = ErrCorrupt
				break
			}
			bits >>= distBits
			count -= distBits
			d = dist[(d>>16)+uint32(bits)&(1<<(d>>8&15)-1)]
			if d&distExcept != 0 {
				err = ErrCorrupt
				break
			}
		}
		distance := int(d>>16) + int(bits&(1<<(d&31)-1)>>(d>>8&15))
		bits >>= d & 31
		count -= uint(d & 31)
		if distance > w-base {
			err = ErrCorrupt
			break
		}
		from, end := w-distance, w+length
		if distance >= 8 {
			store64(out, w, load64(out, from))
			store64(out, w+8, load64(out, from+8))
			for w += 16; w < end; w += 8 {
				from += 8
				store64(out, w, load64(out, from+8))
			}
		} else {
			repeat(out, w, distance, end)
		}
		w = end
	}
	z.pos, z.bits, z.count, z.w = pos, bits&(1<<(count&63)-1), count, w
	return ended, err
}

// repeat writes the distance bytes before w again and again until end, and some bytes more.
func repeat(out unsafe.Pointer, w, distance, end int) {
	// A word of the pattern, and how far it can go at a time and still begin with the pattern's begin.
	word := load64(out, w-distance) & (1<<(8*uint(distance)&63) - 1)
	for n := uint(distance); n < 8; n *= 2 {
		word |= word << (8 * n & 63)
	}
	step := int(steps[distance&7])
	for ; w < end; w += step {
		store64(out, w, word)
	}
}

// steps are the largest multiples of a distance in a word.
var steps = [8]uint8{8, 8, 8, 6, 8, 5, 6, 7}

func load64(p unsafe.Pointer, at int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, at))[:])
}

func store64(p unsafe.Pointer, at int, v uint64) {
	binary.LittleEndian.PutUint64((*[8]byte)(unsafe.Add(p, at))[:], v)
}

func store16(p unsafe.Pointer, at int, v uint16) {
	binary.LittleEndian.PutUint16((*[2]byte)(unsafe.Add(p, at))[:], v)
}

// copyMatch repeats length bytes from distance before w.
func copyMatch(out []byte, w, distance, length int) {
	for n := 0; n < length; {
		n += copy(out[w+n:w+length], out[w-distance:w+n])
	}
}

// careful decodes the last bytes of the input, symbol by symbol: a code that the input does not hold whole is its end.
func (z *Reader) careful() (ended bool, err error) {
	for z.w < history+outRoom {
		z.refill()
		e := z.lit[z.bits&(1<<litBits-1)]
		if e&(exceptional|linkFlag) == exceptional|linkFlag && z.count >= litBits {
			z.take(litBits)
			e = z.lit[(e>>16&0xfff)+uint32(z.bits)&(1<<(e>>8&15)-1)]
		}
		switch {
		case e&literal != 0:
			if err := z.literals(e); err != nil {
				return false, err
			}
		case e&exceptional != 0 && e&(linkFlag|endFlag) == 0:
			return false, z.invalid()
		case uint(e&31) > z.count || e&linkFlag != 0 && e&exceptional != 0:
			return false, z.ended()
		case e&exceptional != 0:
			z.take(uint(e & 15))
			return true, nil
		default:
			if err := z.match(e); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// invalid is the error of bits that are no code. With less than the longest code has, they may be the begin of one.
func (z *Reader) invalid() error {
	if z.count < maxBits {
		return z.ended()
	}
	return ErrCorrupt
}

// refill takes bytes one by one.
func (z *Reader) refill() {
	for z.count <= 48 && z.pos < z.end {
		z.bits |= uint64(z.in[z.pos]) << z.count
		z.pos++
		z.count += 8
	}
}

// literals writes one or two; of two the second only if the input holds it.
func (z *Reader) literals(e entry) error {
	if uint(e&15) <= z.count {
		binary.LittleEndian.PutUint16(z.out[z.w:], uint16(e>>8))
		z.w += int(e >> 24 & 3)
		z.take(uint(e & 15))
		return nil
	}
	if n := uint(e >> 26 & 15); e>>24&3 == 2 && n <= z.count {
		z.out[z.w] = byte(e >> 8)
		z.w++
		z.take(n)
	}
	return z.ended()
}

// match repeats what the length e and the distance that follows say.
func (z *Reader) match(e entry) error {
	length := int(e>>16&0x1ff) + int(z.bits&(1<<(e&31)-1)>>(e>>8&15))
	z.take(uint(e & 31))
	z.refill()
	d := z.dist[z.bits&(1<<distBits-1)]
	if d&(distExcept|distLink) == distExcept|distLink && z.count >= distBits {
		z.take(distBits)
		d = z.dist[(d>>16)+uint32(z.bits)&(1<<(d>>8&15)-1)]
	}
	switch {
	case d&distExcept != 0 && d&distLink == 0:
		return z.invalid()
	case d&distExcept != 0, uint(d&31) > z.count:
		return z.ended()
	}
	distance := int(d>>16) + int(z.bits&(1<<(d&31)-1)>>(d>>8&15))
	z.take(uint(d & 31))
	if distance > z.w-z.base {
		return ErrCorrupt
	}
	copyMatch(z.out, z.w, distance, length)
	z.w += length
	return nil
}
