package xz

// Numbers of LZMA's probabilities.
const (
	probBits = 11
	probInit = 1 << (probBits - 1)
	moveBits = 5
	topValue = 1 << 24
	// round makes moving a probability up and down the same expression: see bit.
	round = 1<<probBits - 1<<moveBits + 1
)

// inputSize is a chunk's largest size, doubled: a position behind its end, which only corrupt data leads to, is still inside
// of the array, and zeros are read there until the end of the symbol shows it.
const inputSize = 1 << 17

// rangeCoder decodes bits of a chunk.
type rangeCoder struct {
	rng, code uint32
	pos       uint32
	in        [inputSize]byte
}

// bit decodes one bit with a probability that adapts.
func (r *rangeCoder) bit(p *uint16) uint32 {
	v := uint32(*p)
	bound := (r.rng >> probBits) * v
	var bit uint32
	if r.code < bound {
		r.rng = bound
		*p = uint16(v + (1<<probBits-v)>>moveBits) //nolint:gosec // probabilities have eleven bits
	} else {
		r.rng -= bound
		r.code -= bound
		*p = uint16(v - v>>moveBits) //nolint:gosec // as above
		bit = 1
	}
	if r.rng < topValue {
		r.rng <<= 8
		r.code = r.code<<8 | uint32(r.in[r.pos&(inputSize-1)])
		r.pos++
	}
	return bit
}

// tree decodes a number of n bits, the highest first, and returns it with a leading one. There must be 1<<n probabilities.
func (r *rangeCoder) tree(probs []uint16, n int) uint32 {
	rng, code, pos := r.rng, r.code, r.pos
	m := uint32(1)
	for range n {
		p := &probs[m]
		v := uint32(*p)
		bound := (rng >> probBits) * v
		mask := uint32(int64(uint64(code)-uint64(bound)) >> 63) //nolint:gosec // all ones if code is below the bound, else zero
		rng = bound&mask | (rng-bound)&^mask
		code -= bound &^ mask
		*p = uint16(int32(v) - (int32(v)-int32(round&mask))>>moveBits) //nolint:gosec // see bit
		m = m<<1 + 1 + mask
		if rng < topValue {
			rng <<= 8
			code = code<<8 | uint32(r.in[pos&(inputSize-1)])
			pos++
		}
	}
	r.rng, r.code, r.pos = rng, code, pos
	return m
}

// reverse decodes a number of n bits, the lowest first.
func (r *rangeCoder) reverse(probs []uint16, n int) uint32 {
	m, out := uint32(1), uint32(0)
	for i := range n {
		b := r.bit(&probs[m])
		m = m<<1 + b
		out |= b << i
	}
	return out
}

// direct decodes a number of n bits that are as likely one as zero, the highest first.
func (r *rangeCoder) direct(n int) uint32 {
	rng, code, pos := r.rng, r.code, r.pos
	out := uint32(0)
	for range n {
		rng >>= 1
		mask := uint32(int64(uint64(code)-uint64(rng)) >> 63) //nolint:gosec // all ones if the bit is zero
		code -= rng &^ mask
		out = out<<1 + 1 + mask
		if rng < topValue {
			rng <<= 8
			code = code<<8 | uint32(r.in[pos&(inputSize-1)])
			pos++
		}
	}
	r.rng, r.code, r.pos = rng, code, pos
	return out
}
