package dns

import (
	"encoding/binary"
	"net/netip"
)

// reply is a message that is being written behind buf.
type reply struct {
	buf     []byte
	start   int
	answers uint16
}

// begin writes the header and the question. flags are those besides QR and what the query's own are kept.
func begin(buf []byte, q *query, rcode int, flags uint16) reply {
	r := reply{buf: buf, start: len(buf)}
	f := flagQR | flagRA | flags | q.flags&(opcodeMask|flagRD|flagCD) | uint16(rcode&rcodeMask)
	r.buf = binary.BigEndian.AppendUint16(r.buf, q.id)
	r.buf = binary.BigEndian.AppendUint16(r.buf, f)
	r.buf = append(r.buf, 0, 0, 0, 0, 0, 0, 0, 0)
	if q.wireLen > 0 {
		r.buf[r.start+5] = 1
		r.buf = append(r.buf, q.wire[:q.wireLen]...)
		r.buf = binary.BigEndian.AppendUint16(r.buf, q.kind)
		r.buf = binary.BigEndian.AppendUint16(r.buf, q.class)
	}
	return r
}

// record writes a record of the question's name.
func (r *reply) record(kind uint16, ttl uint32, data []byte) {
	r.buf = append(r.buf, pointerFlag, headerSize)
	r.buf = binary.BigEndian.AppendUint16(r.buf, kind)
	r.buf = binary.BigEndian.AppendUint16(r.buf, classIN)
	r.buf = binary.BigEndian.AppendUint32(r.buf, ttl)
	r.buf = binary.BigEndian.AppendUint16(r.buf, uint16(len(data)))
	r.buf = append(r.buf, data...)
	r.answers++
}

// address writes an A or AAAA record.
func (r *reply) address(a netip.Addr, ttl uint32) {
	if a.Is4() {
		b := a.As4()
		r.record(typeA, ttl, b[:])
		return
	}
	b := a.As16()
	r.record(typeAAAA, ttl, b[:])
}

// end completes the message. One that is larger than limit is cut to its question, with a flag that has the client ask
// again over TCP.
func (r *reply) end(q *query, rcode, limit int) []byte {
	if q.edns {
		limit -= optSize
	}
	if len(r.buf)-r.start > limit {
		r.buf = r.buf[:r.start+headerSize+question(q)]
		r.buf[r.start+2] |= flagTC >> 8
		r.answers = 0
	}
	binary.BigEndian.PutUint16(r.buf[r.start+6:], r.answers)
	if !q.edns {
		return r.buf
	}
	binary.BigEndian.PutUint16(r.buf[r.start+10:], 1)
	return appendOPT(r.buf, rcode, q.dnssec)
}

// question is the size of the question's copy.
func question(q *query) int {
	if q.wireLen == 0 {
		return 0
	}
	return q.wireLen + 4
}

func appendOPT(buf []byte, rcode int, dnssec bool) []byte {
	var flags uint16
	if dnssec {
		flags = flagDO
	}
	buf = append(buf, 0)
	buf = binary.BigEndian.AppendUint16(buf, typeOPT)
	buf = binary.BigEndian.AppendUint16(buf, askedSize)
	buf = append(buf, byte(rcode>>4), 0)
	buf = binary.BigEndian.AppendUint16(buf, flags)
	return append(buf, 0, 0)
}

// bare is an answer that has no records.
func bare(buf []byte, q *query, rcode int, flags uint16) []byte {
	r := begin(buf, q, rcode, flags)
	return r.end(q, rcode, largestTCP)
}

// appendName writes a name from its text; labels that are too long, or empty, end it.
func appendName(buf []byte, text string) []byte {
	start := 0
	for i := 0; i <= len(text); i++ {
		if i < len(text) && text[i] != '.' {
			continue
		}
		label := text[start:i]
		if label == "" || len(label) > maxLabel {
			break
		}
		buf = append(append(buf, byte(len(label))), label...)
		start = i + 1
	}
	return append(buf, 0)
}
