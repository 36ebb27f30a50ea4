package engine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
)

// program is what the beginning of an executable file says about it.
type program struct {
	machine elf.Machine
	loader  string // the interpreter of a dynamically linked one
}

var errNotELF = errors.New("not an ELF file")

// Bounds of what is read of a foreign file.
const (
	maxHeaders = 64
	maxLoader  = 4096
)

// readELF reads the machine and the loader, and no more: the file is foreign.
func readELF(r io.ReaderAt) (program, error) {
	var p program
	var head [64]byte
	if n, _ := r.ReadAt(head[:], 0); n < 52 || !bytes.HasPrefix(head[:], []byte(elf.ELFMAG)) {
		return p, errNotELF
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	p.machine = elf.Machine(order.Uint16(head[18:]))
	wide := elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64
	at, size, count := int64(order.Uint32(head[28:])), int64(order.Uint16(head[42:])), int(order.Uint16(head[44:]))
	if wide {
		at, size, count = int64(order.Uint64(head[32:])), int64(order.Uint16(head[54:])), int(order.Uint16(head[56:]))
	}
	for i := range min(count, maxHeaders) {
		var ph [56]byte
		if n, _ := r.ReadAt(ph[:], at+int64(i)*size); n < 32 {
			break
		}
		if elf.ProgType(order.Uint32(ph[:])) != elf.PT_INTERP {
			continue
		}
		offset, length := int64(order.Uint32(ph[4:])), int64(order.Uint32(ph[16:]))
		if wide {
			offset, length = int64(order.Uint64(ph[8:])), int64(order.Uint64(ph[32:]))
		}
		if length <= 0 || length > maxLoader {
			break
		}
		name := make([]byte, length)
		n, _ := r.ReadAt(name, offset)
		name, _, _ = bytes.Cut(name[:n], []byte{0})
		p.loader = string(name)
		break
	}
	return p, nil
}

// architectures are Go's names of machines.
var architectures = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
	elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_MIPS: "mips", elf.EM_LOONGARCH: "loong64",
}
