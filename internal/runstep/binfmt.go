package runstep

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
)

// machine is a processor as ELF files name it.
type machine struct {
	number uint16
	class  byte // 1: 32 bits, 2: 64
	big    bool
}

// machines are those that there are images for.
var machines = map[string]machine{
	"386": {3, 1, false}, "amd64": {62, 2, false}, "arm": {40, 1, false}, "arm64": {183, 2, false},
	"loong64": {258, 2, false}, "mips64": {8, 2, true}, "mips64le": {8, 2, false}, "ppc64le": {21, 2, false},
	"riscv64": {243, 2, false}, "s390x": {22, 2, true},
}

// native are the architectures that a processor executes by itself.
var native = map[string][]string{"amd64": {"amd64", "386"}, "arm64": {"arm64", "arm"}}

// binfmtDir is where the kernel tells which programs it has interpreters for.
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// Platforms are those whose programs can be run here: this machine's first, then those of registered emulators.
func Platforms() []ocispec.Platform {
	own := platforms.DefaultSpec()
	list := []ocispec.Platform{own}
	if own.Architecture == "amd64" {
		list = append(list, ocispec.Platform{OS: "linux", Architecture: "386"})
	}
	var foreign []string
	for arch := range machines {
		if !slices.Contains(natives(), arch) && emulator(binfmtDir, arch) != "" {
			foreign = append(foreign, arch)
		}
	}
	slices.Sort(foreign)
	for _, arch := range foreign {
		list = append(list, platforms.Normalize(ocispec.Platform{OS: "linux", Architecture: arch}))
	}
	return list
}

func natives() []string {
	if list, ok := native[goruntime.GOARCH]; ok {
		return list
	}
	return []string{goruntime.GOARCH}
}

// Emulated says whether commands for a platform run under an emulator here.
func Emulated(p ocispec.Platform) bool {
	return !slices.Contains(natives(), platforms.Normalize(p).Architecture)
}

// emulation refuses a command whose processor this machine neither is nor emulates.
func (s *step) emulation() error {
	if s.Platform == nil {
		return nil
	}
	p := platforms.Normalize(*s.Platform)
	if p.OS != "" && p.OS != "linux" {
		return &fault.Error{
			Code: "platform-foreign", What: "cannot run commands for " + platforms.Format(p),
			Cause: "this is Linux", Class: errdefs.ErrInvalidArgument,
		}
	}
	if p.Architecture == "" || !Emulated(p) || emulator(binfmtDir, p.Architecture) != "" {
		return nil
	}
	return &fault.Error{
		Code: "platform-foreign", What: "cannot run commands for " + platforms.Format(p),
		Cause: "this machine is " + platforms.Format(platforms.DefaultSpec()) + ", and no emulator for " + p.Architecture + " is registered in " + binfmtDir,
		Try:   "install qemu-user-static (Debian: apt-get install qemu-user-static binfmt-support), or build on such a machine",
		Class: errdefs.ErrFailedPrecondition,
	}
}

// emulator finds the interpreter that the kernel starts for an architecture's programs: one that it keeps open (flag F),
// for in a container its path leads nowhere.
func emulator(dir, arch string) string {
	m, ok := machines[arch]
	if !ok {
		return ""
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	head := m.header()
	for _, e := range entries {
		if e.Name() == "register" || e.Name() == "status" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		if interpreter, ok := matches(string(text), head); ok {
			return interpreter
		}
	}
	return ""
}

// header is how a program for the machine begins.
func (m machine) header() []byte {
	head := make([]byte, 64)
	copy(head, "\x7fELF")
	head[4], head[5], head[6] = m.class, 1, 1
	var order binary.ByteOrder = binary.LittleEndian
	if m.big {
		head[5], order = 2, binary.BigEndian
	}
	order.PutUint16(head[16:], 2) // an executable
	order.PutUint16(head[18:], m.number)
	order.PutUint32(head[20:], 1)
	return head
}

// matches reads an entry of binfmt_misc and says whether it takes programs that begin so.
func matches(entry string, head []byte) (interpreter string, ok bool) {
	var magic, mask []byte
	var offset int
	enabled, fixed := false, false
	for line := range strings.Lines(entry) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "enabled":
			enabled = true
		case "interpreter":
			interpreter = value
		case "flags:":
			fixed = strings.Contains(value, "F")
		case "offset":
			if value != "0" {
				offset = -1 // ELF is told from its first bytes
			}
		case "magic":
			magic, _ = hex.DecodeString(value)
		case "mask":
			mask, _ = hex.DecodeString(value)
		}
	}
	if !enabled || !fixed || offset != 0 || len(magic) == 0 || len(magic) > len(head) {
		return "", false
	}
	got := bytes.Clone(head[:len(magic)])
	for i := range mask {
		if i < len(got) {
			got[i] &= mask[i]
			magic[i] &= mask[i]
		}
	}
	return interpreter, bytes.Equal(got, magic)
}
