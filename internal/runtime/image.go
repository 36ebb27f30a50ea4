package runtime

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The binary form of an operation, which the interpreters read. Addresses are absolute.
const (
	binNR     = 0  // int32
	binLoad   = 4  // uint32: bit i set: argument i is the address of a word that holds it
	binStore  = 8  // address of the word for the result, or 0
	binArgs   = 16 // 6 words
	binErr    = 64 // 3 pairs: int32 errno, uint32 offset of the operation to go on with
	binTarget = 88 // uint32: offset of the operation that pseudo operations jump to
	binIndex  = 92 // uint32: index of the operation plus one
	binSize   = 96
	binErrs   = 3
)

// image is a program in memory outside the Go heap, ready for an interpreter.
type image struct {
	prog   *Program
	mem    []byte
	base   uintptr
	size   int // what the program takes of mem
	host   int // offset of the host section
	child  int // offset of the child section
	relocs int // offset of the relocations, for an interpreter that maps the image elsewhere
	count  int // how many there are
	file   *os.File
}

// load lays a program out. With shared memory of a file, another process can map it too.
func load(p *Program, file bool) (*image, error) {
	if err := p.host.check(); err != nil {
		return nil, err
	}
	if err := p.child.check(); err != nil {
		return nil, err
	}
	p.align()
	im := &image{prog: p, host: len(p.mem)}
	im.child = im.host + (len(p.host.ops)+1)*binSize
	im.relocs = im.child + (len(p.child.ops)+1)*binSize
	size := im.relocs
	relocs := p.relocs
	if file {
		size += 4 * (len(relocs) + 14*(len(p.host.ops)+len(p.child.ops)))
	}
	size = (size + 4095) &^ 4095
	var err error
	if err = im.mmap(size, file); err != nil {
		return nil, fmt.Errorf("memory for a set-up program: %w", err)
	}
	copy(im.mem, p.mem)
	for _, at := range p.relocs {
		w := im.mem[at:]
		binary.LittleEndian.PutUint64(w, binary.LittleEndian.Uint64(w)+uint64(im.base))
	}
	relocs = im.encode(&p.host, im.host, relocs)
	relocs = im.encode(&p.child, im.child, relocs)
	if file {
		im.count = len(relocs)
		for i, at := range relocs {
			binary.LittleEndian.PutUint32(im.mem[im.relocs+4*i:], at)
		}
	}
	return im, nil
}

func (im *image) mmap(size int, file bool) (err error) {
	im.size = size
	if !file {
		im.mem, err = spares.get(size)
	} else {
		var fd int
		if fd, err = unix.MemfdCreate("kist-program", unix.MFD_CLOEXEC); err != nil {
			return err
		}
		im.file = os.NewFile(uintptr(fd), "kist-program")
		if err = im.file.Truncate(int64(size)); err == nil {
			im.mem, err = mapShared(fd, size)
		}
	}
	if err != nil {
		im.free()
		return err
	}
	im.base = uintptr(unsafe.Pointer(unsafe.SliceData(im.mem)))
	return nil
}

// encode writes a section, which ends in an operation that fails, and returns the relocations with its own added.
func (im *image) encode(s *section, at int, relocs []uint32) []uint32 {
	le := binary.LittleEndian
	address := func(off int, v uint64) uint64 {
		if im.file != nil {
			relocs = append(relocs, uint32(off))
		}
		return v + uint64(im.base)
	}
	for i := range s.ops {
		o := &s.ops[i]
		off := at + i*binSize
		b := im.mem[off : off+binSize]
		le.PutUint32(b[binNR:], uint32(o.nr))
		var load uint32
		for n, v := range o.args {
			if o.kinds[n] == argMem {
				load |= 1 << n
			}
			if o.kinds[n] != argImm {
				v = address(off+binArgs+8*n, v)
			}
			le.PutUint64(b[binArgs+8*n:], v)
		}
		le.PutUint32(b[binLoad:], load)
		if o.store != 0 {
			le.PutUint64(b[binStore:], address(off+binStore, uint64(o.store)))
		}
		for n, h := range o.handlers() {
			le.PutUint32(b[binErr+8*n:], uint32(h.errno))
			le.PutUint32(b[binErr+8*n+4:], uint32(s.target(h.to, i)*binSize))
		}
		if o.nr < 0 && (o.nr == opJump || o.nr == opIfEq) {
			le.PutUint32(b[binTarget:], uint32(s.target(o.to, i)*binSize))
		}
		le.PutUint32(b[binIndex:], uint32(i+1))
	}
	last := im.mem[at+len(s.ops)*binSize:]
	end := int32(opFail)
	le.PutUint32(last[binNR:], uint32(end))
	le.PutUint32(last[binIndex:], uint32(len(s.ops)+1))
	return relocs
}

// free gives the memory back. The process that used it must have gone on to another program, or have ended.
func (im *image) free() {
	if im.file != nil {
		im.file.Close()
		im.file = nil
		if im.mem != nil {
			_ = unix.Munmap(im.mem)
		}
	} else if im.mem != nil {
		spares.put(im.mem, im.size)
	}
	im.mem = nil
}

func (im *image) word(s slot) uint64       { return binary.LittleEndian.Uint64(im.mem[s:]) }
func (im *image) setWord(s slot, v uint64) { binary.LittleEndian.PutUint64(im.mem[s:], v) }
func (im *image) fd(s slot) int            { return int(int64(im.word(s))) }

// failure is the operation that failed, if one did.
func (im *image) failure(s *section) error {
	n := binary.LittleEndian.Uint32(im.mem[headFailIndex:])
	if n == 0 {
		return nil
	}
	errno := unix.Errno(binary.LittleEndian.Uint32(im.mem[headFailErrno:]))
	if int(n) > len(s.ops) {
		return fmt.Errorf("set-up program ran past its end")
	}
	o := &s.ops[n-1]
	return &StartError{Step: o.step, Path: o.path, Err: errno}
}
