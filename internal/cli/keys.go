package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// errDetached tells that the person pressed the detach keys.
var errDetached = errors.New("read escape sequence")

// detachKeys reads the keys of a flag, or else of the settings, or the usual ones.
func detachKeys(flag, setting string) ([]byte, error) {
	s := flag
	if s == "" {
		s = setting
	}
	if s == "" {
		return []byte{16, 17}, nil // ctrl-p, ctrl-q
	}
	keys, err := parseKeys(s)
	if err != nil {
		return nil, fmt.Errorf("invalid detach keys (%s): %w", s, err)
	}
	return keys, nil
}

// parseKeys reads a list such as ctrl-p,ctrl-q or x.
func parseKeys(s string) ([]byte, error) {
	var out []byte
	for _, k := range strings.Split(s, ",") {
		switch {
		case len(k) == 1:
			out = append(out, k[0])
		case k == "DEL":
			out = append(out, 127)
		case strings.HasPrefix(k, "ctrl-") && len(k) == 6:
			code, ok := controlKey(k[5])
			if !ok {
				return nil, fmt.Errorf("unknown character: '%s'", k)
			}
			out = append(out, code)
		default:
			return nil, fmt.Errorf("unknown character: '%s'", k)
		}
	}
	return out, nil
}

func controlKey(c byte) (byte, bool) {
	switch {
	case c >= 'a' && c <= 'z':
		return c - 'a' + 1, true
	case c == '@':
		return 0, true
	case c >= '[' && c <= '_':
		return c - '[' + 27, true
	}
	return 0, false
}

// formatKeys is parseKeys backwards.
func formatKeys(keys []byte) string {
	var out []string
	for _, k := range keys {
		switch {
		case k == 0:
			out = append(out, "ctrl-@")
		case k <= 26:
			out = append(out, "ctrl-"+string('a'+k-1))
		case k <= 31:
			out = append(out, "ctrl-"+string('['+k-27))
		case k == 127:
			out = append(out, "DEL")
		default:
			out = append(out, string(k))
		}
	}
	return strings.Join(out, ",")
}

// keyReader passes its source on and ends with errDetached at the sequence of keys. A begun sequence is held back until the
// next key tells whether it goes on.
type keyReader struct {
	src     io.Reader
	keys    []byte
	matched int
	ready   []byte
	err     error
	buf     [4096]byte
}

func (k *keyReader) Read(p []byte) (int, error) {
	for len(k.ready) == 0 {
		if k.err != nil {
			return 0, k.err
		}
		n, err := k.src.Read(k.buf[:])
		k.ready = k.filter(k.buf[:n])
		if err != nil && k.err == nil {
			if k.err = err; k.matched > 0 {
				k.ready = append(k.ready, k.keys[:k.matched]...)
				k.matched = 0
			}
		}
	}
	n := copy(p, k.ready)
	k.ready = k.ready[n:]
	return n, nil
}

// filter returns what of in may pass.
func (k *keyReader) filter(in []byte) []byte {
	var out bytes.Buffer
	for _, c := range in {
		for {
			if c == k.keys[k.matched] {
				if k.matched++; k.matched == len(k.keys) {
					k.err = errDetached
					return out.Bytes()
				}
				break
			}
			if k.matched == 0 {
				out.WriteByte(c)
				break
			}
			// The first held key passes; what follows it may begin the sequence anew.
			k.release(&out)
		}
	}
	return out.Bytes()
}

// release passes held keys until the rest is a beginning of the sequence again.
func (k *keyReader) release(out *bytes.Buffer) {
	held := k.keys[:k.matched]
	for i := 1; i <= len(held); i++ {
		if bytes.HasPrefix(k.keys, held[i:]) {
			out.Write(held[:i])
			k.matched = len(held) - i
			return
		}
	}
}
