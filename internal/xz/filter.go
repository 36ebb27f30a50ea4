package xz

import "encoding/binary"

// filter undoes, in place, what was done to data before it was compressed. It returns how many bytes are done; the rest it
// wants to see again with what follows.
type filter interface {
	undo(p []byte) int
}

func newFilter(id uint64, props []byte) (filter, error) {
	start := uint32(0)
	switch {
	case id == filterDelta && len(props) == 1:
		return &delta{distance: int(props[0]) + 1}, nil
	case id != filterX86 && id != filterARM64:
		return nil, ErrUnsupported
	case len(props) == 4:
		start = binary.LittleEndian.Uint32(props)
	case len(props) != 0:
		return nil, ErrUnsupported
	}
	if id == filterARM64 {
		return &arm64{pos: start}, nil
	}
	return &x86{pos: start}, nil
}

// stage is a filter with what it has not finished yet.
type stage struct {
	filter
	rest []byte
}

// filtered passes what was decoded through the filters. The window must stay as it is, so they work on a copy.
func (z *Reader) filtered(part []byte, last bool) []byte {
	for i, f := range z.chain {
		st, ok := f.(*stage)
		if !ok {
			st = &stage{filter: f}
			z.chain[i] = st
		}
		buf := append(st.rest, part...)
		n := st.undo(buf)
		if last {
			n = len(buf) // what is too short to be an instruction is none
		}
		part = buf[:n:n]
		st.rest = append([]byte(nil), buf[n:]...)
	}
	return part
}

// delta stores each byte's difference from the one some way back.
type delta struct {
	distance int
	history  [256]byte
	pos      byte
}

func (d *delta) undo(p []byte) int {
	for i := range p {
		p[i] += d.history[byte(d.distance)+d.pos]
		d.history[d.pos] = p[i]
		d.pos--
	}
	return len(p)
}

// arm64 stores absolute addresses in BL and ADRP instructions.
type arm64 struct{ pos uint32 }

func (a *arm64) undo(p []byte) int {
	n := len(p) &^ 3
	for i := 0; i < n; i += 4 {
		pc := a.pos + uint32(i) //nolint:gosec // addresses wrap
		in := binary.LittleEndian.Uint32(p[i:])
		switch {
		case in>>26 == 0x25: // BL
			in = 0x94000000 | (in-pc>>2)&0x03ffffff
		case in&0x9f000000 == 0x90000000: // ADRP
			src := in>>29&3 | in>>3&0x001ffffc
			if (src+0x00020000)&0x001c0000 != 0 {
				continue
			}
			dest := src - pc>>12
			in = in&0x9000001f | dest&3<<29 | dest&0x0003fffc<<3 | -(dest&0x00020000)&0x00e00000
		default:
			continue
		}
		binary.LittleEndian.PutUint32(p[i:], in)
	}
	a.pos += uint32(n) //nolint:gosec // addresses wrap
	return n
}
