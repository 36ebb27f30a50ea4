package dns

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// response is what a resolver said, ready to be said again: without its OPT record, whose content is between two
// neighbours only.
type response struct {
	wire []byte
	// ttls are where the records' times to live are in wire.
	ttls []uint16
	got  time.Time
	// lives is how long it may be remembered, 0 for not at all.
	lives time.Duration
}

var (
	errMalformed  = errors.New("malformed answer")
	errOtherReply = errors.New("an answer to something else")
)

// Limits of what is remembered, whatever the answer itself says.
const (
	longestLife    = time.Hour
	longestNothing = time.Minute
)

// parseResponse reads the packet p, which becomes the response's own. id and the question must be those asked; canon is
// the name in lower case.
func parseResponse(p []byte, id uint16, canon []byte, kind uint16) (*response, error) {
	if len(p) < headerSize || len(p) > largestTCP {
		return nil, errMalformed
	}
	flags := binary.BigEndian.Uint16(p[2:])
	if binary.BigEndian.Uint16(p) != id || flags&flagQR == 0 || flags&opcodeMask != 0 {
		return nil, errOtherReply
	}
	r := &response{wire: p}
	at := headerSize
	switch binary.BigEndian.Uint16(p[4:]) {
	case 0: // some resolvers leave it out when they refuse
		if r.rcode() == rcodeOK {
			return nil, errOtherReply
		}
		return r, nil
	case 1:
		if !sameQuestion(p[at:], canon, kind) {
			return nil, errOtherReply
		}
		at += len(canon) + 4
	default:
		return nil, errMalformed
	}
	if flags&flagTC != 0 { // what records it has are not all of them
		r.wire = slices.Clip(p[:at])
		clear(r.wire[6:headerSize])
		return r, nil
	}
	return r, r.walk(at)
}

func sameQuestion(p, canon []byte, kind uint16) bool {
	if len(p) < len(canon)+4 {
		return false
	}
	for i, c := range canon {
		b := p[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != c {
			return false
		}
	}
	rest := p[len(canon):]
	return binary.BigEndian.Uint16(rest) == kind && binary.BigEndian.Uint16(rest[2:]) == classIN
}

func (r *response) flags() uint16 { return binary.BigEndian.Uint16(r.wire[2:]) }
func (r *response) rcode() int    { return int(r.flags() & rcodeMask) }

// walk goes through the records from at on: it checks them, notes their times to live, and cuts the OPT record off.
func (r *response) walk(at int) error {
	var counts [3]int
	for i := range counts {
		counts[i] = int(binary.BigEndian.Uint16(r.wire[6+2*i:]))
	}
	shortest, nothing := uint32(longestLife/time.Second), uint32(0)
	for section, count := range counts {
		for n := range count {
			rest, ok := skipName(r.wire[at:])
			if !ok || len(rest) < 10 {
				return errMalformed
			}
			size := int(binary.BigEndian.Uint16(rest[8:]))
			if len(rest) < 10+size {
				return errMalformed
			}
			kind, ttl := binary.BigEndian.Uint16(rest), binary.BigEndian.Uint32(rest[4:])
			if section == 2 && kind == typeOPT {
				r.cut(at, n)
				r.remember(counts[0], shortest, nothing)
				return nil
			}
			if ttl > 1<<31-1 { // RFC 2181: as if zero
				ttl = 0
			}
			head := len(r.wire) - len(rest)
			r.ttls = append(r.ttls, uint16(head+4))
			shortest = min(shortest, ttl)
			if section == 1 && kind == typeSOA && size >= 20 {
				nothing = min(ttl, binary.BigEndian.Uint32(rest[10+size-4:]))
			}
			at = head + 10 + size
		}
	}
	r.cut(at, counts[2])
	r.remember(counts[0], shortest, nothing)
	return nil
}

// cut ends the message at a place in its additional section, of which count records stay.
func (r *response) cut(at, count int) {
	r.wire = slices.Clip(r.wire[:at])
	binary.BigEndian.PutUint16(r.wire[10:], uint16(count))
}

// remember sets how long the response lives: by its records, or, when there is no answer, by the SOA record (RFC 2308).
func (r *response) remember(answers int, shortest, nothing uint32) {
	negative := r.rcode() == rcodeNone || r.rcode() == rcodeOK && answers == 0
	switch {
	case negative:
		r.lives = min(time.Duration(min(nothing, shortest))*time.Second, longestNothing)
	case r.rcode() == rcodeOK:
		r.lives = time.Duration(shortest) * time.Second
	}
}

// appendTo writes the response as the answer to q, age after it was got, in at most limit bytes.
func (r *response) appendTo(buf []byte, q *query, age time.Duration, limit int) []byte {
	end := headerSize + question(q)
	if len(r.wire) < end { // it came without the question
		return bare(buf, q, r.rcode(), 0)
	}
	start := len(buf)
	size := len(r.wire)
	if q.edns {
		size += optSize
	}
	flags := flagQR | flagRA | r.flags()&(flagAA|flagAD|rcodeMask) | q.flags&(flagRD|flagCD)
	if q.flags&flagAD == 0 && !q.dnssec {
		flags &^= flagAD
	}
	if size > limit {
		buf = append(buf, r.wire[:end]...)
		clear(buf[start+6 : start+headerSize])
		flags |= flagTC
	} else {
		buf = append(buf, r.wire...)
		r.grow(buf[start:], age)
	}
	binary.BigEndian.PutUint16(buf[start:], q.id)
	binary.BigEndian.PutUint16(buf[start+2:], flags)
	copy(buf[start+headerSize:], q.wire[:q.wireLen])
	if !q.edns {
		return buf
	}
	binary.BigEndian.PutUint16(buf[start+10:], binary.BigEndian.Uint16(buf[start+10:])+1)
	return appendOPT(buf, r.rcode(), q.dnssec)
}

// grow makes the records in a copy of the wire older.
func (r *response) grow(p []byte, age time.Duration) {
	seconds := uint32(age / time.Second)
	if seconds == 0 {
		return
	}
	for _, at := range r.ttls {
		ttl := binary.BigEndian.Uint32(p[at:])
		binary.BigEndian.PutUint32(p[at:], ttl-min(ttl, seconds))
	}
}
