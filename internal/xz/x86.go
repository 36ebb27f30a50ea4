package xz

import "encoding/binary"

// x86 stores absolute addresses in CALL and JMP instructions. Their bytes may also be something else: an address is only
// taken for one if its highest byte is 0 or 255, and if what looked like an instruction shortly before does not speak
// against it.
type x86 struct {
	pos  uint32
	mask uint32 // which of the last three bytes looked like an instruction
}

// allowed are the masks with which an instruction is believed: those of at most one earlier suspect.
var allowed = [8]bool{true, true, true, false, true, false, false, false}

var maskBit = [8]uint{0, 1, 2, 2, 3, 3, 3, 3}

func msb(b byte) bool { return b == 0 || b == 0xff }

func (x *x86) undo(p []byte) int {
	if len(p) < 5 {
		return 0
	}
	limit := len(p) - 5
	mask, prev := x.mask&7, -1
	i := 0
	for ; i <= limit; i++ {
		if p[i]&0xfe != 0xe8 {
			continue
		}
		if gap := i - prev; gap > 3 {
			mask = 0
		} else {
			mask = mask << (gap - 1) & 7
			if mask != 0 && (!allowed[mask] || msb(p[i+4-int(maskBit[mask])])) { //nolint:gosec // at most 3
				prev = i
				mask = mask<<1 | 1
				continue
			}
		}
		prev = i
		if !msb(p[i+4]) {
			mask = mask<<1 | 1
			continue
		}
		src := binary.LittleEndian.Uint32(p[i+1:])
		dest := x.address(src, uint32(i)+5, mask) //nolint:gosec // addresses wrap
		dest = dest&0x01ffffff | -(dest >> 24 & 1 << 24)
		binary.LittleEndian.PutUint32(p[i+1:], dest)
		i += 4
		mask = 0
	}
	if gap := i - prev; gap > 3 {
		x.mask = 0
	} else {
		x.mask = mask << (gap - 1) & 7
	}
	x.pos += uint32(i) //nolint:gosec // addresses wrap
	return i
}

// address makes an absolute address relative again.
func (x *x86) address(src, at, mask uint32) uint32 {
	for {
		dest := src - (x.pos + at)
		if mask == 0 {
			return dest
		}
		shift := maskBit[mask] * 8
		if b := byte(dest >> (24 - shift)); !msb(b) {
			return dest
		}
		src = dest ^ (1<<(32-shift) - 1)
	}
}
