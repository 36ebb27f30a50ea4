package dns

import "encoding/binary"

// Sizes and numbers of RFC 1035, 6891 and their kin.
const (
	headerSize  = 12
	maxName     = 255
	maxLabel    = 63
	plainSize   = 512  // what a client takes that says nothing else
	largestUDP  = 4096 // what is sent in one packet at most
	largestTCP  = 65535
	optSize     = 11 // an OPT record without options
	askedSize   = 1232
	pointerFlag = 0xC0
)

// Types, classes and response codes.
const (
	typeA     = 1
	typeSOA   = 6
	typePTR   = 12
	typeAAAA  = 28
	typeOPT   = 41
	typeIXFR  = 251
	typeAXFR  = 252
	typeAny   = 255
	classIN   = 1
	classAny  = 255
	rcodeOK   = 0
	rcodeForm = 1 // FORMERR
	rcodeFail = 2 // SERVFAIL
	rcodeNone = 3 // NXDOMAIN
	rcodeImp  = 4 // NOTIMP
	rcodeNot  = 5 // REFUSED
	// rcodeVersion is BADVERS; its high bits go into the OPT record.
	rcodeVersion = 16
)

// Bits of the header's flags.
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4

	opcodeMask = 0xF << 11
	rcodeMask  = 0xF
	flagDO     = 1 << 15 // in the OPT record
)

// query is what matters of a packet that asks. It keeps no part of the packet.
type query struct {
	id, flags   uint16
	kind, class uint16
	// wire is the question's name as it was sent, lower its lower-case form, text that as people write it, without the dot
	// at the end. A name that cannot be written so (a label with a dot in it) has none.
	wire, lower, text [maxName]byte
	wireLen, textLen  int
	odd               bool // it has no text
	size              int  // that the reply may have over UDP
	edns, dnssec      bool
}

func (q *query) name() []byte  { return q.text[:q.textLen] }
func (q *query) canon() []byte { return q.lower[:q.wireLen] }

// parse reads a packet. rcode other than rcodeOK is the answer to it already; ok false means that it deserves none.
func (q *query) parse(p []byte) (rcode int, ok bool) {
	if len(p) < headerSize {
		return 0, false
	}
	q.id, q.flags = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	q.wireLen, q.textLen, q.odd = 0, 0, false
	q.size, q.edns, q.dnssec = plainSize, false, false
	switch {
	case q.flags&flagQR != 0:
		return 0, false
	case q.flags&opcodeMask != 0:
		return rcodeImp, true
	case binary.BigEndian.Uint16(p[4:]) != 1 || binary.BigEndian.Uint32(p[6:]) != 0:
		return rcodeForm, true
	}
	rest, ok := q.parseName(p[headerSize:])
	if !ok || len(rest) < 4 {
		q.wireLen = 0
		return rcodeForm, true
	}
	q.kind, q.class = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	return q.parseExtra(rest[4:], int(binary.BigEndian.Uint16(p[10:]))), true
}

// parseName reads the question's name, which cannot be compressed: nothing comes before it.
func (q *query) parseName(p []byte) (rest []byte, ok bool) {
	n, t := 0, 0
	for {
		if n >= len(p) || n >= maxName || p[n] > maxLabel {
			return nil, false
		}
		size := int(p[n])
		if n+1+size > len(p) || n+1+size > maxName {
			return nil, false
		}
		q.wire[n], q.lower[n] = p[n], p[n]
		if size == 0 {
			break
		}
		if t > 0 {
			q.text[t] = '.'
			t++
		}
		for i, c := range p[n+1 : n+1+size] {
			q.wire[n+1+i] = c
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			q.odd = q.odd || c == '.'
			q.lower[n+1+i], q.text[t] = c, c
			t++
		}
		n += 1 + size
	}
	q.wireLen, q.textLen = n+1, t
	return p[n+1:], true
}

// parseExtra reads the additional section, of which only the OPT record matters.
func (q *query) parseExtra(p []byte, count int) (rcode int) {
	for range count {
		rest, ok := skipName(p)
		if !ok || len(rest) < 10 {
			return rcodeForm
		}
		size := int(binary.BigEndian.Uint16(rest[8:]))
		if len(rest) < 10+size {
			return rcodeForm
		}
		if binary.BigEndian.Uint16(rest) == typeOPT {
			if q.edns || p[0] != 0 {
				return rcodeForm
			}
			q.edns = true
			q.size = min(max(int(binary.BigEndian.Uint16(rest[2:])), plainSize), largestUDP)
			q.dnssec = binary.BigEndian.Uint16(rest[6:])&flagDO != 0
			if rest[5] != 0 {
				return rcodeVersion
			}
		}
		p = rest[10+size:]
	}
	return rcodeOK
}

// skipName skips a name that may be compressed.
func skipName(p []byte) (rest []byte, ok bool) {
	for n := 0; n < len(p) && n < maxName; {
		switch size := int(p[n]); {
		case size == 0:
			return p[n+1:], true
		case size&pointerFlag == pointerFlag:
			if n+2 > len(p) {
				return nil, false
			}
			return p[n+2:], true
		case size > maxLabel:
			return nil, false
		default:
			n += 1 + size
		}
	}
	return nil, false
}
