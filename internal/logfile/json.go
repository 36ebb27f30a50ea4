package logfile

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"
)

// jsonFormat is docker's json-file:
//
//	{"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2006-01-02T15:04:05.999999999Z"}
type jsonFormat struct {
	attrs []byte // `,"attrs":{...}` or empty

	// What decode saw last: the attributes of a file are the same in every record.
	seenRaw []byte
	seen    map[string]string
	text    []byte
}

func newJSONFormat(attrs map[string]string) *jsonFormat {
	f := &jsonFormat{}
	if len(attrs) > 0 {
		if b, err := json.Marshal(attrs); err == nil { // a map of strings always marshals
			f.attrs = append([]byte(`,"attrs":`), b...)
		}
	}
	return f
}

func (f *jsonFormat) header(map[string]string) []byte { return nil }

func (f *jsonFormat) append(b []byte, stream string, line []byte, at time.Time) []byte {
	b = append(b, `{"log":"`...)
	b = appendEscaped(b, line)
	b = append(b, `","stream":"`...)
	b = append(b, stream...)
	b = append(b, '"')
	b = append(b, f.attrs...)
	b = append(b, `,"time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"', '}', '\n')
}

const hexDigits = "0123456789abcdef"

// appendEscaped escapes as docker's writer does, HTML's characters included.
func appendEscaped(b, s []byte) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				b = append(append(b, s[start:i]...), `\ufffd`...)
				start = i + size
			case r == '\u2028' || r == '\u2029':
				b = append(append(b, s[start:i]...), `\u202`...)
				b = append(b, hexDigits[r&0xf])
				start = i + size
			}
			i += size
			continue
		}
		if c >= 0x20 && c != '\\' && c != '"' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '\\', '"':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
		i++
		start = i
	}
	return append(b, s[start:]...)
}

func (f *jsonFormat) decode(b []byte) (Record, int, bool) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) >= maxRecord { // damage: give it up piecewise until a newline comes
			return Record{}, len(b), false
		}
		return Record{}, 0, false
	}
	r, ok := f.parse(b[:end])
	return r, end + 1, ok
}

func (f *jsonFormat) parse(line []byte) (Record, bool) {
	if r, ok := f.parseOwn(line); ok {
		return r, true
	}
	var v struct {
		Log    string            `json:"log"`
		Stream string            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   time.Time         `json:"time"`
	}
	if json.Unmarshal(line, &v) != nil || v.Stream == "" {
		return Record{}, false
	}
	return Record{Stream: v.Stream, Time: v.Time, Line: []byte(v.Log), Attrs: v.Attrs}, true
}

// parseOwn reads a record as append writes it, without reflection.
func (f *jsonFormat) parseOwn(b []byte) (r Record, ok bool) {
	b, ok = bytes.CutPrefix(b, []byte(`{"log":"`))
	if !ok {
		return r, false
	}
	f.text = f.text[:0]
	if f.text, b, ok = appendUnescaped(f.text, b); !ok {
		return r, false
	}
	b, ok = bytes.CutPrefix(b, []byte(`,"stream":"std`))
	if !ok {
		return r, false
	}
	name, b, ok := bytes.Cut(b, []byte{'"'})
	switch {
	case ok && string(name) == "out":
		r.Stream = "stdout"
	case ok && string(name) == "err":
		r.Stream = "stderr"
	default:
		return r, false
	}
	i := bytes.LastIndex(b, []byte(`,"time":"`))
	if i < 0 {
		return r, false
	}
	if r.Attrs, ok = f.parseAttrs(b[:i]); !ok {
		return r, false
	}
	stamp, ok := bytes.CutSuffix(b[i+len(`,"time":"`):], []byte(`"}`))
	if !ok {
		return r, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	r.Time, r.Line = at, f.text
	return r, err == nil
}

func (f *jsonFormat) parseAttrs(b []byte) (map[string]string, bool) {
	if len(b) == 0 {
		return nil, true
	}
	if bytes.Equal(b, f.seenRaw) {
		return f.seen, true
	}
	raw, ok := bytes.CutPrefix(b, []byte(`,"attrs":`))
	if !ok {
		return nil, false
	}
	var m map[string]string
	if json.Unmarshal(raw, &m) != nil {
		return nil, false
	}
	f.seenRaw, f.seen = bytes.Clone(b), m
	return m, true
}

// appendUnescaped reads a JSON string up to its closing quote. It knows the escapes that append writes; others are left
// to encoding/json.
func appendUnescaped(dst, b []byte) (text, rest []byte, ok bool) {
	for {
		i := bytes.IndexAny(b, `"\`)
		if i < 0 {
			return dst, nil, false
		}
		dst = append(dst, b[:i]...)
		if b[i] == '"' {
			return dst, b[i+1:], true
		}
		if i+1 >= len(b) {
			return dst, nil, false
		}
		switch c := b[i+1]; c {
		case '\\', '"':
			dst = append(dst, c)
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 'u':
			r, good := hexRune(b[i+2:])
			if !good {
				return dst, nil, false
			}
			dst = utf8.AppendRune(dst, r)
			i += 4
		default:
			return dst, nil, false
		}
		b = b[i+2:]
	}
}

// hexRune reads four digits. Halves of surrogate pairs are not for it.
func hexRune(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, r < 0xd800 || r > 0xdfff
}

func (f *jsonFormat) sound(tail []byte, whole bool) int {
	i := bytes.LastIndexByte(tail, '\n')
	if i < 0 && !whole {
		return -1
	}
	return i + 1
}

func (f *jsonFormat) last(b []byte) int {
	if len(b) == 0 {
		return -1
	}
	i := bytes.LastIndexByte(b[:len(b)-1], '\n')
	if i < 0 {
		return -1
	}
	return i + 1
}
