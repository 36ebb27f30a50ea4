//go:build amd64 || arm64

package runtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unsafe"
)

//go:noescape
func initAddress() uintptr

const (
	initEnd     = "kist-init-end.\n\x00"
	initMaxSize = 4096
)

// InitProgram returns an ELF program for the first process of a container that is run with an init: it starts the
// program of its arguments, forwards signals to it, reaps orphans, and ends as that program does. It is less than a page,
// needs no libraries, and is meant to be mounted read-only into containers.
func InitProgram() ([]byte, error) {
	addr := initAddress()
	code := unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), initMaxSize)
	n := 0
	for n+len(initEnd) <= initMaxSize && string(code[n:n+len(initEnd)]) != initEnd {
		n++
	}
	if n+len(initEnd) > initMaxSize {
		return nil, errors.New("the init program's end is not where it should be")
	}
	return elf(bytes.Clone(code[:n])), nil
}

// elf wraps position-independent code into an executable of one segment.
func elf(code []byte) []byte {
	const (
		headers = 64 + 56
		base    = 0x400000
	)
	le := binary.LittleEndian
	b := make([]byte, headers, headers+len(code))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2) // ET_EXEC
	le.PutUint16(b[18:], elfMachine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], base+headers) // entry
	le.PutUint64(b[32:], 64)           // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	p := b[64:]
	le.PutUint32(p, 1)     // PT_LOAD
	le.PutUint32(p[4:], 5) // readable, executable
	le.PutUint64(p[16:], base)
	le.PutUint64(p[24:], base)
	le.PutUint64(p[32:], uint64(headers+len(code)))
	le.PutUint64(p[40:], uint64(headers+len(code)))
	le.PutUint64(p[48:], 0x10000) // the largest page size that there is
	return append(b, code...)
}
