package xz

import "encoding/binary"

// States of LZMA: what the last symbols were. Those below literalStates follow a literal.
const (
	states        = 12
	literalStates = 7
)

// Lengths and distances.
const (
	minMatch    = 2
	posStates   = 16
	distStates  = 4
	startModel  = 4
	endModel    = 14
	alignBits   = 4
	fullModeled = 1 << (endModel / 2)
	literalSize = 0x300
	// maxLiterals: LZMA2 allows lc+lp up to 4.
	maxLiterals = literalSize << 4
	// slack behind the window, into which copies may run.
	slack = 16
)

// lengths decodes a match's length.
type lengths struct {
	choice, choice2 uint16
	low, mid        [posStates][8]uint16
	high            [256]uint16
}

func (l *lengths) reset() {
	l.choice, l.choice2 = probInit, probInit
	for i := range l.low {
		fill(l.low[i][:])
		fill(l.mid[i][:])
	}
	fill(l.high[:])
}

func (l *lengths) decode(r *rangeCoder, posState uint32) uint32 {
	if r.bit(&l.choice) == 0 {
		return minMatch + r.tree(l.low[posState&(posStates-1)][:], 3) - 8
	}
	if r.bit(&l.choice2) == 0 {
		return minMatch + 8 + r.tree(l.mid[posState&(posStates-1)][:], 3) - 8
	}
	return minMatch + 16 + r.tree(l.high[:], 8) - 256
}

// lzma is a decoder's state between chunks.
type lzma struct {
	rangeCoder
	lc, lpMask, pbMask uint32
	state              uint32
	rep                [4]uint32

	// Sizes that let an index of a byte be any.
	match    [256]uint16
	rep0Long [256]uint16
	isRep    [16]uint16
	repG     [3][16]uint16
	slot     [distStates][64]uint16
	special  [fullModeled]uint16
	align    [1 << alignBits]uint16
	length   lengths
	repLen   lengths
	literal  [maxLiterals + 0x100]uint16
}

func fill(probs []uint16) {
	for i := range probs {
		probs[i] = probInit
	}
}

// properties sets lc, lp and pb from their byte.
func (d *lzma) properties(b byte) error {
	if b >= 9*5*5 {
		return ErrCorrupt
	}
	lc, lp, pb := uint32(b%9), uint32(b/9%5), uint32(b/45)
	if lc+lp > 4 {
		return ErrCorrupt
	}
	d.lc, d.lpMask, d.pbMask = lc, 1<<lp-1, 1<<pb-1
	return nil
}

func (d *lzma) reset() {
	d.state, d.rep = 0, [4]uint32{}
	fill(d.match[:])
	fill(d.rep0Long[:])
	fill(d.isRep[:])
	for i := range d.repG {
		fill(d.repG[i][:])
	}
	for i := range d.slot {
		fill(d.slot[i][:])
	}
	fill(d.special[:])
	fill(d.align[:])
	d.length.reset()
	d.repLen.reset()
	fill(d.literal[:])
}

// chunk decodes the n bytes of input that lie in d.in into w from at to limit. begin is where the dictionary begins in w,
// which has slack bytes behind limit; dict is how far back a match may reach.
func (d *lzma) chunk(n uint32, w []byte, begin, at, limit int, dict uint32) error {
	if n < 5 || d.in[0] != 0 {
		return ErrCorrupt
	}
	clear(d.in[n : n+64])
	d.rng, d.code, d.pos = 0xffffffff, binary.BigEndian.Uint32(d.in[1:5]), 5
	for at < limit {
		if d.pos > n {
			return ErrCorrupt
		}
		posState := uint32(at-begin) & d.pbMask               //nolint:gosec // only the lowest bits count
		if d.bit(&d.match[uint8(d.state<<4|posState)]) == 0 { //nolint:gosec // states and position states have four bits
			if d.state < literalStates {
				at = d.literals(n, w, begin, at, limit)
				continue
			}
			if at-begin <= int(d.rep[0]) {
				return ErrCorrupt
			}
			w[at] = d.matched(d.literalProbs(w, begin, at), w[at-int(d.rep[0])-1])
			at++
			if d.state < 10 {
				d.state -= 3
			} else {
				d.state -= 6
			}
			continue
		}
		length, ok := d.matchLength(posState)
		if !ok {
			return ErrCorrupt // the end marker is not for LZMA2
		}
		dist := int(d.rep[0]) + 1
		if dist > at-begin || d.rep[0] >= dict || int(length) > limit-at {
			return ErrCorrupt
		}
		repeat(w, at, dist, int(length))
		at += int(length)
	}
	if d.pos != n || d.code != 0 {
		return ErrCorrupt
	}
	return nil
}

// literalProbs are the probabilities for the literal at a place.
func (d *lzma) literalProbs(w []byte, begin, at int) *[0x400]uint16 {
	prev := uint32(0)
	if at > begin {
		prev = uint32(w[at-1])
	}
	i := (uint32(at-begin)&d.lpMask)<<d.lc + prev>>(8-d.lc) //nolint:gosec // only the lowest bits count
	return (*[0x400]uint16)(d.literal[i*literalSize:])
}

// literals decodes a literal that does not follow a match, and all that come behind it.
func (d *lzma) literals(n uint32, w []byte, begin, at, limit int) int {
	rng, code, pos := d.rng, d.code, d.pos
	state := d.state
	prev := uint32(0)
	if at > begin {
		prev = uint32(w[at-1])
	}
	for {
		i := (uint32(at-begin)&d.lpMask)<<d.lc + prev>>((8-d.lc)&31) //nolint:gosec // only the lowest bits count
		probs := (*[0x100]uint16)(d.literal[i*literalSize:])
		m := uint32(1)
		for m < 0x100 {
			p := &probs[uint8(m)] //nolint:gosec // below 256
			v := uint32(*p)
			bound := (rng >> probBits) * v
			mask := uint32(int64(uint64(code)-uint64(bound)) >> 63) //nolint:gosec // all ones if code is below the bound
			rng = bound&mask | (rng-bound)&^mask
			code -= bound &^ mask
			*p = uint16(int32(v) - (int32(v)-int32(round&mask))>>moveBits) //nolint:gosec // probabilities have eleven bits
			m = m<<1 + 1 + mask
			if rng < topValue {
				rng <<= 8
				code = code<<8 | uint32(d.in[pos&(inputSize-1)])
				pos++
			}
		}
		prev = m & 0xff
		w[at] = byte(prev)
		at++
		if state = max(state, 3) - 3; at >= limit || pos > n {
			break
		}
		p := &d.match[uint8(state<<4|uint32(at-begin)&d.pbMask)] //nolint:gosec // four bits each
		v := uint32(*p)
		bound := (rng >> probBits) * v
		if code >= bound {
			break // no literal: the bit is decoded again by who called
		}
		rng = bound
		*p = uint16(v + (1<<probBits-v)>>moveBits) //nolint:gosec // as above
		if rng < topValue {
			rng <<= 8
			code = code<<8 | uint32(d.in[pos&(inputSize-1)])
			pos++
		}
	}
	d.rng, d.code, d.pos, d.state = rng, code, pos, state
	return at
}

// matched decodes the literal behind a match, which most often differs from the byte that would have gone on with the match.
func (d *lzma) matched(probs *[0x400]uint16, b byte) byte {
	rng, code, pos := d.rng, d.code, d.pos
	m, like, offset := uint32(1), uint32(b), uint32(0x100)
	for m < 0x100 {
		like <<= 1
		bit := like & offset
		p := &probs[(offset+bit+m)&0x3ff]
		v := uint32(*p)
		bound := (rng >> probBits) * v
		mask := uint32(int64(uint64(code)-uint64(bound)) >> 63) //nolint:gosec // all ones if code is below the bound
		rng = bound&mask | (rng-bound)&^mask
		code -= bound &^ mask
		*p = uint16(int32(v) - (int32(v)-int32(round&mask))>>moveBits) //nolint:gosec // probabilities have eleven bits
		m = m<<1 + 1 + mask
		offset &= bit ^ mask // as long as the bits are the same
		if rng < topValue {
			rng <<= 8
			code = code<<8 | uint32(d.in[pos&(inputSize-1)])
			pos++
		}
	}
	d.rng, d.code, d.pos = rng, code, pos
	return byte(m)
}

// matchLength decodes the rest of a match: its length, and its distance into rep[0]. It reports false for the end marker.
func (d *lzma) matchLength(posState uint32) (uint32, bool) {
	state := d.state & 15
	after := uint32(0)
	if state >= literalStates {
		after = 3
	}
	if d.bit(&d.isRep[state]) == 0 {
		length := d.length.decode(&d.rangeCoder, posState)
		d.rep[3], d.rep[2], d.rep[1] = d.rep[2], d.rep[1], d.rep[0]
		d.rep[0] = d.distance(length)
		d.state = 7 + after
		return length, d.rep[0] != 0xffffffff
	}
	if d.bit(&d.repG[0][state]) == 0 {
		if d.bit(&d.rep0Long[uint8(state<<4|posState)]) == 0 { //nolint:gosec // four bits each
			d.state = 9 + min(after, 2)
			return 1, true
		}
	} else {
		d.rotate(state)
	}
	d.state = 8 + after
	return d.repLen.decode(&d.rangeCoder, posState), true
}

// rotate brings an earlier distance to the front.
func (d *lzma) rotate(state uint32) {
	r := &d.rep
	switch {
	case d.bit(&d.repG[1][state]) == 0:
		r[0], r[1] = r[1], r[0]
	case d.bit(&d.repG[2][state]) == 0:
		r[0], r[1], r[2] = r[2], r[0], r[1]
	default:
		r[0], r[1], r[2], r[3] = r[3], r[0], r[1], r[2]
	}
}

func (d *lzma) distance(length uint32) uint32 {
	s := min(length-minMatch, distStates-1)
	slot := d.tree(d.slot[s][:], 6) - 64
	if slot < startModel {
		return slot
	}
	n := int(slot>>1) - 1
	dist := (2 | slot&1) << n
	if slot < endModel {
		return dist + d.reverse(d.special[dist-slot:], n)
	}
	dist += d.direct(n-alignBits) << alignBits
	return dist + d.reverse(d.align[:], alignBits)
}

// repeat copies a match; what it repeats may overlap it. It may write into the slack behind it.
func repeat(w []byte, at, dist, length int) {
	from := at - dist
	if dist >= 8 && length <= 64 {
		src, dst := w[from:from+length+8], w[at:at+length+8] // within the slack
		for i := 0; i < length; i += 8 {
			binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(src[i:]))
		}
		return
	}
	if dist == 1 {
		b := w[from]
		part := w[at : at+length]
		for i := range part {
			part[i] = b
		}
		return
	}
	for length > 0 { // what was copied doubles what can be copied at once
		n := copy(w[at:at+min(length, at-from)], w[from:at])
		at += n
		length -= n
	}
}
