package front

// demux takes docker's frames apart: a header of eight bytes (stream, three zeros, length) before each piece.
type demux struct {
	buf  []byte
	n    int    // bytes in buf that wait for the rest of a header
	to   int    // where the frame goes
	left uint32 // of the frame
	// out and err are the descriptors of standard output and error.
	out, err int
}

const header = 8

// room is where the next bytes are to be read to.
func (d *demux) room() []byte {
	if d.buf == nil {
		d.buf = make([]byte, 32<<10)
	}
	return d.buf[d.n:]
}

// took writes the n bytes that were put there. It says whether they could be understood.
func (d *demux) took(n int) bool {
	b := d.buf[:d.n+n]
	for {
		if d.left > 0 {
			piece := b[:min(uint32(len(b)), d.left)]
			put(d.to, piece)
			d.left -= uint32(len(piece))
			b = b[len(piece):]
		}
		if len(b) < header {
			d.n = copy(d.buf, b)
			return true
		}
		if b[0] > 3 || b[1]|b[2]|b[3] != 0 {
			return false
		}
		d.to, d.left = d.err, uint32(b[4])<<24|uint32(b[5])<<16|uint32(b[6])<<8|uint32(b[7])
		if b[0] == 1 {
			d.to = d.out
		}
		b = b[header:]
	}
}
