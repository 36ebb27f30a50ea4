package inflate

import "math/bits"

// An entry of a decoding table is what a lookup of the next bits yields:
//
//	bits 0-7    bits to consume: the code's and, of lengths and distances, the extra bits'
//	bits 8-15   of lengths and distances, the code's bits alone; of a literal, itself
//	bits 16-24  of a length, its base
//	bits 16-30  of a distance, its base
//	bits 16-23  of two literals, the second one; bits 24-25 tell how many there are, bits 26-29 the first one's bits
//	bit 31      set: a literal (in the table of literals and lengths)
//
// Of exceptional entries bit 15 is set in the table of distances, bit 30 in the other. Those are: a link to a second
// table (base: its start, bits 8-12: its index's bits), the end of the block, and codes that do not exist.
type entry = uint32

const (
	literal     entry = 1 << 31
	exceptional entry = 1 << 30 // table of literals and lengths
	linkFlag    entry = 1 << 29
	endFlag     entry = 1 << 28
	distExcept  entry = 1 << 15 // table of distances
	distLink    entry = 1 << 14
)

const (
	litBits  = 11
	distBits = 9
	maxBits  = 15

	// What two levels need at most for 288 and 32 symbols of 15 bits, rounded up.
	litSize  = 1<<litBits + 1024
	distSize = 1<<distBits + 512

	endOfBlock = 256
	maxLit     = 286 // symbols that mean something
	maxDist    = 30
)

var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193,
		12289, 16385, 24577,
	}
	distExtra = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// litEntry is the entry of a symbol with an n bits long code, without what depends on the table's level.
func litEntry(sym int, n uint32) entry {
	switch {
	case sym < endOfBlock:
		return literal | n<<26 | 1<<24 | entry(sym)<<8 | n
	case sym == endOfBlock:
		return exceptional | endFlag | n
	case sym < maxLit:
		i := sym - endOfBlock - 1
		return entry(lengthBase[i])<<16 | n<<8 | (n + uint32(lengthExtra[i]))
	}
	return exceptional
}

func distEntry(sym int, n uint32) entry {
	if sym >= maxDist {
		return distExcept
	}
	return entry(distBase[sym])<<16 | n<<8 | (n + uint32(distExtra[sym]))
}

// codes is a canonical Huffman code sorted for building tables.
type codes struct {
	count [maxBits + 1]uint16 // codes by length
	next  [maxBits + 2]uint16 // where the symbols of a length begin in syms
	syms  [288]uint16         // symbols by length, then by number
	max   uint32              // longest length used
}

// sort takes the lengths in and reports whether they make a complete code. As everywhere, a code of no symbols passes
// (using it is the error), and so does one single symbol of one bit.
func (c *codes) sort(lengths []uint8) bool {
	c.count = [maxBits + 1]uint16{}
	for _, n := range lengths {
		c.count[n&maxBits]++
	}
	c.count[0] = 0
	c.max = 0
	left := 1
	for n := uint32(1); n <= maxBits; n++ {
		left = left<<1 - int(c.count[n])
		if left < 0 {
			return false
		}
		if c.count[n] > 0 {
			c.max = n
		}
		c.next[n+1] = c.next[n] + c.count[n]
	}
	at := c.next
	for sym, n := range lengths {
		if n != 0 {
			c.syms[at[n&maxBits]] = uint16(sym)
			at[n&maxBits]++
		}
	}
	return left == 0 || c.max == 0 || c.max == 1 && c.count[1] == 1
}

// build fills table, whose first level has 1<<width entries, with what of says for each symbol. Codes come bit-reversed
// in the stream, so an entry is repeated at every index that ends in its code.
func (c *codes) build(table []entry, width uint32, invalid, link entry, of func(sym int, n uint32) entry) {
	first := table[:1<<width]
	if c.max == 0 || c.max == 1 && c.count[1] == 1 {
		for i := range first {
			first[i] = invalid
		}
	}
	code, used := uint32(0), uint32(1)<<width
	i := 0
	for n := uint32(1); n <= min(c.max, width); n++ {
		for range c.count[n] {
			e := of(int(c.syms[i]), n)
			for at := reverse(code, n); at < 1<<width; at += 1 << n {
				first[at] = e
			}
			i++
			code++
		}
		code <<= 1
	}
	if c.max <= width {
		return
	}
	c.buildSecond(table, width, link, of, code, used, i)
}

// buildSecond fills the second levels: codes with the same first width bits share one.
func (c *codes) buildSecond(table []entry, width uint32, link entry, of func(int, uint32) entry, code, used uint32, i int) {
	prefix, subBits, start := ^uint32(0), uint32(0), uint32(0)
	for n := width + 1; n <= c.max; n++ {
		for k := range uint32(c.count[n]) {
			if p := code >> (n - width); p != prefix {
				prefix, start = p, used
				subBits = c.secondBits(n, width, uint32(c.count[n])-k)
				used += 1 << subBits
				table[reverse(prefix, width)] = link | start<<16 | subBits<<8 | width
			}
			e := of(int(c.syms[i]), n-width)
			low := code & (1<<(n-width) - 1)
			for at := reverse(low, n-width); at < 1<<subBits; at += 1 << (n - width) {
				table[start+at] = e
			}
			i++
			code++
		}
		code <<= 1
	}
}

// secondBits is how many bits a second level needs whose first code has n bits, when left codes of that length remain.
func (c *codes) secondBits(n, width, left uint32) uint32 {
	size := n - width
	room := int(1)<<size - int(left)
	for room > 0 && width+size < c.max {
		size++
		room = room<<1 - int(c.count[width+size])
	}
	return size
}

func reverse(code, n uint32) uint32 { return bits.Reverse32(code) >> (32 - n) }

// pair makes entries for two literals where both codes fit into one index.
func pair(table *[litSize]entry) {
	for i := 1<<litBits - 1; i >= 0; i-- {
		e := table[i]
		if e&literal == 0 {
			continue
		}
		// Entries below i are not paired yet; index 0 refers to itself.
		f := table[i>>(e&15)]
		if f&literal == 0 || (e&15)+(f&15) > litBits {
			continue
		}
		table[i] = literal | e&(15<<26) | 2<<24 | f&0xff00<<8 | e&0xff00 | (e&15 + f&15)
	}
}
