package keeper

import (
	"os"
	"testing"
)

func TestPristine(t *testing.T) {
	got := pristine([]byte(`00400000-00800000 r-xp 00000000 fd:00 123 /bin/kist
Size:               4096 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00800000-00900000 r--p 00400000 fd:00 123 /bin/kist
Anonymous:             4 kB
00900000-00a00000 r--p 00500000 fd:00 123 /bin/with a name
Anonymous:             0 kB
00a00000-00b00000 rw-p 00500000 fd:00 123 /bin/kist
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:          1024 kB
7fff00000000-7fff00001000 r-xp 00000000 00:00 0                  [vdso]
Anonymous:             0 kB
00b00000-00c00000 r--s 00000000 fd:00 7 /shared
Anonymous:             0 kB
`))
	want := []mapping{{0x400000, 0x400000}, {0x900000, 0x100000}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %x, want %x", got, want)
	}
}

// TestTrim trims this very process, which must go on as if nothing had been.
func TestTrim(t *testing.T) {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("no smaps here: ", err)
	}
	if len(pristine(smaps)) == 0 {
		t.Error("this program's text was not found")
	}
	trim()
}
