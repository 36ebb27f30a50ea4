package keeper

import "bytes"

// detacher finds the detach keys in an attachment's input, also when they come in several pieces. Bytes that may be the
// keys' beginning are held back until it is known.
type detacher struct {
	keys []byte
	held int // how many of the keys' bytes have been seen
}

// scan returns what of b (with what was held back before) goes to the process, and whether the keys were seen; what
// follows them is dropped. The result may be b itself.
func (d *detacher) scan(b []byte) (pass []byte, detached bool) {
	if len(d.keys) == 0 || d.held == 0 && bytes.IndexByte(b, d.keys[0]) < 0 {
		return b, false
	}
	pass = make([]byte, 0, len(b)+len(d.keys))
	for _, c := range b {
		for {
			if c == d.keys[d.held] {
				d.held++
				break
			}
			if d.held == 0 {
				pass = append(pass, c)
				break
			}
			// The longest end of what was held that is a beginning of the keys again stays held.
			n := d.fallback()
			pass = append(pass, d.keys[:d.held-n]...)
			d.held = n
		}
		if d.held == len(d.keys) {
			d.held = 0
			return pass, true
		}
	}
	return pass, false
}

func (d *detacher) fallback() int {
	for n := d.held - 1; n > 0; n-- {
		if bytes.Equal(d.keys[:n], d.keys[d.held-n:d.held]) {
			return n
		}
	}
	return 0
}

// rest is what is still held back when the input ends.
func (d *detacher) rest() []byte {
	b := d.keys[:d.held]
	d.held = 0
	return b
}
