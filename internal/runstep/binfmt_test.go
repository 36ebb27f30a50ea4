package runstep

import (
	"os"
	"path/filepath"
	"testing"
)

// What the kernel tells of Debian's qemu-user-static.
const qemuAarch64 = `enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
`

func TestEmulator(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"register": "", "status": "enabled\n", "qemu-aarch64": qemuAarch64,
		"python": "enabled\ninterpreter /usr/bin/python3\nflags: F\noffset 0\nmagic 6f0d0d0a\n",
		"off":    "disabled\ninterpreter /q/s390x\nflags: F\noffset 0\nmagic 7f454c4602020100000000000000000000020016\n",
		"path":   "enabled\ninterpreter /q/riscv64\nflags: P\noffset 0\nmagic 7f454c460201010000000000000000000200f300\n", // found by its path, which is not in a container
		"broken": "enabled\ninterpreter\nmagic zz\noffset x\nflags:",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for arch, want := range map[string]string{
		"arm64": "/usr/libexec/qemu-binfmt/aarch64-binfmt-P", "s390x": "", "riscv64": "", "arm": "", "nosuch": "", "amd64": "",
	} {
		if got := emulator(dir, arch); got != want {
			t.Errorf("%s: %q, want %q", arch, got, want)
		}
	}
	if got := emulator(filepath.Join(dir, "none"), "arm64"); got != "" {
		t.Error(got)
	}
}

func FuzzBinfmt(f *testing.F) {
	f.Add(qemuAarch64)
	f.Add("enabled\nflags: F\nmagic 00\nmask 0000000000")
	head := machines["arm64"].header()
	f.Fuzz(func(t *testing.T, entry string) {
		if i, ok := matches(entry, head); ok && i == "" && entry == "" {
			t.Error("nothing matches")
		}
	})
}

func TestPlatforms(t *testing.T) {
	list := Platforms()
	if len(list) == 0 || Emulated(list[0]) || list[0].OS != "linux" {
		t.Errorf("%+v", list)
	}
}
