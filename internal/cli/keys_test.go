package cli

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestDetachKeys(t *testing.T) {
	for _, tc := range []struct{ keys, in, out string }{
		{"ctrl-p,ctrl-q", "abc\x10\x11def", "abc"},
		{"ctrl-p,ctrl-q", "a\x10b\x10\x10\x11", "a\x10b\x10"},
		{"a,b,a,c", "ababac!", "ab"},
		{"x", "yx", "y"},
	} {
		keys, err := detachKeys(tc.keys, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := formatKeys(keys); got != tc.keys {
			t.Errorf("%s became %s", tc.keys, got)
		}
		for _, r := range []io.Reader{strings.NewReader(tc.in), iotest.OneByteReader(strings.NewReader(tc.in))} {
			b, err := io.ReadAll(&keyReader{src: r, keys: keys})
			if string(b) != tc.out || !errors.Is(err, errDetached) {
				t.Errorf("%s: %q let %q pass (%v), want %q", tc.keys, tc.in, b, err, tc.out)
			}
		}
	}
	// What is held back at the end of the input passes.
	b, err := io.ReadAll(&keyReader{src: strings.NewReader("ab\x10"), keys: []byte{16, 17}})
	if string(b) != "ab\x10" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	for _, bad := range []string{"ctrl-", "ctrl-1", "abc", "a,,b"} {
		if _, err := detachKeys(bad, ""); err == nil {
			t.Errorf("%s was taken for keys", bad)
		}
	}
	if keys, err := detachKeys("", "ctrl-a"); err != nil || keys[0] != 1 {
		t.Errorf("settings' keys: %v %v", keys, err)
	}
}
