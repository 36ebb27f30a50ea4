package logfile

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sync"
	"time"
)

// localFormat is kist's own. A file is a sequence of frames; the length at both ends lets a reader walk it either way.
//
//	length u32 | CRC-32C of the payload u32 | payload | length u32     (little-endian; length of the payload)
//
// The payload's first byte is its kind. A line's is followed by the time (i64, nanoseconds since 1970) and the text
// without its newline; the attributes' by key and value in turn, each with its length (uvarint).
type localFormat struct {
	attrs map[string]string
}

const (
	kindStdout = 1
	kindStderr = 2
	kindAttrs  = 3
	kindMask   = 0x7f
	flagPart   = 0x80 // no newline followed the text

	frameHead = 8
	frameTail = 4
	lineHead  = 9
)

// checksum makes its table at the first use: most processes that link this package write no log.
func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

func (f *localFormat) header(attrs map[string]string) []byte {
	if len(attrs) == 0 {
		return nil
	}
	keys := make([]string, 0, len(attrs))
	for k := range attrs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b := append(make([]byte, frameHead), kindAttrs)
	for _, k := range keys {
		for _, s := range []string{k, attrs[k]} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	if len(b) > maxRecord {
		return nil
	}
	return closeFrame(b, 0)
}

func (f *localFormat) append(b []byte, stream string, line []byte, at time.Time) []byte {
	start := len(b)
	kind := byte(kindStdout)
	if stream == "stderr" {
		kind = kindStderr
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	} else {
		kind |= flagPart
	}
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind)
	b = binary.LittleEndian.AppendUint64(b, uint64(at.UnixNano()))
	b = append(b, line...)
	return closeFrame(b, start)
}

// closeFrame fills in the head of the frame that begins at start, and adds its tail.
func closeFrame(b []byte, start int) []byte {
	payload := b[start+frameHead:]
	n := uint32(len(payload))
	binary.LittleEndian.PutUint32(b[start:], n)
	binary.LittleEndian.PutUint32(b[start+4:], checksum(payload))
	return binary.LittleEndian.AppendUint32(b, n)
}

// frame returns the payload at the head of b and the frame's whole length. n is 0 when more bytes are needed and
// negative when this is not a frame.
func frame(b []byte) (payload []byte, n int) {
	if len(b) < frameHead {
		return nil, 0
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 || size > maxRecord {
		return nil, -1
	}
	n = frameHead + int(size) + frameTail
	if len(b) < n {
		return nil, 0
	}
	payload = b[frameHead : n-frameTail]
	if binary.LittleEndian.Uint32(b[n-frameTail:]) != size || checksum(payload) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, -1
	}
	return payload, n
}

func (f *localFormat) decode(b []byte) (Record, int, bool) {
	payload, n := frame(b)
	switch {
	case n < 0: // damage: look for a frame at the next byte
		return Record{}, 1, false
	case n == 0:
		return Record{}, 0, false
	}
	kind := payload[0]
	if kind&kindMask == kindAttrs {
		f.attrs = decodeAttrs(payload[1:])
		return Record{}, n, false
	}
	if len(payload) < lineHead {
		return Record{}, n, false
	}
	r := Record{Attrs: f.attrs, Time: time.Unix(0, int64(binary.LittleEndian.Uint64(payload[1:]))).UTC()}
	switch kind & kindMask {
	case kindStdout:
		r.Stream = "stdout"
	case kindStderr:
		r.Stream = "stderr"
	default: // a later version's
		return Record{}, n, false
	}
	text := payload[lineHead:]
	r.Line = make([]byte, 0, len(text)+1)
	r.Line = append(r.Line, text...)
	if kind&flagPart == 0 {
		r.Line = append(r.Line, '\n')
	}
	return r, n, true
}

func decodeAttrs(b []byte) map[string]string {
	attrs := map[string]string{}
	next := func() (string, bool) {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return "", false
		}
		s := string(b[used : used+int(n)])
		b = b[used+int(n):]
		return s, true
	}
	for len(b) > 0 {
		k, ok := next()
		if !ok {
			break
		}
		v, ok := next()
		if !ok {
			break
		}
		attrs[k] = v
	}
	return attrs
}

func (f *localFormat) sound(tail []byte, whole bool) int {
	if n := len(tail); n == 0 || f.last(tail) >= 0 {
		return n
	}
	if !whole {
		return -1
	}
	good := 0
	for i := 0; i < len(tail); {
		_, n := frame(tail[i:])
		if n > 0 {
			i += n
			good = i
			continue
		}
		i++
	}
	return good
}

func (f *localFormat) last(b []byte) int {
	if len(b) < frameHead+1+frameTail {
		return -1
	}
	size := binary.LittleEndian.Uint32(b[len(b)-frameTail:])
	start := int64(len(b)) - frameHead - frameTail - int64(size)
	if start < 0 {
		return -1
	}
	if _, n := frame(b[start:]); n != len(b)-int(start) {
		return -1
	}
	return int(start)
}
