package keeper

import (
	"bytes"
	"testing"
)

func TestDetacher(t *testing.T) {
	tests := []struct {
		name, keys string
		in         []string
		pass       string
		detached   bool
	}{
		{"no keys", "", []string{"a\x10\x11"}, "a\x10\x11", false},
		{"at once", "\x10\x11", []string{"ab\x10\x11dropped"}, "ab", true},
		{"in pieces", "\x10\x11", []string{"a", "\x10", "\x11"}, "a", true},
		{"not after all", "\x10\x11", []string{"\x10", "x"}, "\x10x", false},
		{"beginning twice", "\x10\x11", []string{"\x10\x10", "\x11"}, "\x10", true},
		{"overlap", "aab", []string{"aaab"}, "a", true},
		{"long overlap", "abab!", []string{"abababx", "abab!"}, "abababx", true},
		{"held at the end", "abc", []string{"xab"}, "x", false},
		{"one key", "q", []string{"abcq"}, "abc", true},
	}
	for _, c := range tests {
		d := &detacher{keys: []byte(c.keys)}
		var pass []byte
		detached := false
		for _, in := range c.in {
			b, now := d.scan([]byte(in))
			pass = append(pass, b...)
			detached = detached || now
		}
		if string(pass) != c.pass || detached != c.detached {
			t.Errorf("%s: passed %q, detached %v", c.name, pass, detached)
		}
	}
}

// FuzzDetacher compares with a search in the whole input.
func FuzzDetacher(f *testing.F) {
	f.Add([]byte("aab"), []byte("xaaaab"), 2)
	f.Fuzz(func(t *testing.T, keys, in []byte, cut int) {
		if len(keys) == 0 || len(keys) > 8 {
			t.Skip()
		}
		want, found := in, bytes.Contains(in, keys)
		if found {
			want = in[:bytes.Index(in, keys)]
		}
		cut = min(max(cut, 0), len(in))
		d := &detacher{keys: keys}
		got, detached := d.scan(bytes.Clone(in[:cut]))
		got = bytes.Clone(got)
		if !detached {
			var more []byte
			more, detached = d.scan(bytes.Clone(in[cut:]))
			got = append(got, more...)
		}
		if !detached {
			got = append(got, d.rest()...)
		}
		if detached != found || !bytes.Equal(got, want) {
			t.Fatalf("keys %q in %q|%q: passed %q, detached %v", keys, in[:cut], in[cut:], got, detached)
		}
	})
}
