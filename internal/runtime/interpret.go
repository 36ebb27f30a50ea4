package runtime

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelCall is unix.Syscall6 or unix.RawSyscall6.
type kernelCall func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err unix.Errno)

// interpret runs the operations at an offset of a program's memory in this thread. It returns only when the program
// ended: with false when an operation failed, which the memory's head then tells.
//
// It is the plain executor's heart, and the parent's for the host section; the fast executor does the same in assembly.
// The parent calls the kernel as Go does, which lets other goroutines run while a mount takes its time; the child raw,
// because the runtime's own system calls may be forbidden already.
func interpret(mem []byte, at int, call kernelCall) bool {
	le := binary.LittleEndian
	pos := 0
	for {
		b := mem[at+pos : at+pos+binSize]
		nr := int32(le.Uint32(b[binNR:]))
		load := le.Uint32(b[binLoad:])
		var a [6]uintptr
		for i := range a {
			v := uintptr(le.Uint64(b[binArgs+8*i:]))
			if load&(1<<i) != 0 {
				v = uintptr(*word(v))
			}
			a[i] = v
		}
		next := pos + binSize
		var errno unix.Errno
		switch nr {
		case opJump:
			pos = int(le.Uint32(b[binTarget:]))
			continue
		case opIfEq:
			if *word(a[0])&uint64(a[1]) == uint64(a[2]) {
				next = int(le.Uint32(b[binTarget:]))
			}
			pos = next
			continue
		case opSet:
			*word(a[0]) = uint64(a[1])
			pos = next
			continue
		case opFail:
			errno = unix.Errno(a[0])
			if errno == 0 {
				return true // the end of a host section
			}
		default:
			var r uintptr
			r, _, errno = call(uintptr(nr), a[0], a[1], a[2], a[3], a[4], a[5])
			if errno == 0 {
				if s := uintptr(le.Uint64(b[binStore:])); s != 0 {
					*word(s) = uint64(r)
				}
				pos = next
				continue
			}
		}
		to, ok := handled(b, errno)
		if !ok {
			le.PutUint32(mem[headFailErrno:], uint32(errno))
			le.PutUint32(mem[headFailIndex:], le.Uint32(b[binIndex:]))
			return false
		}
		pos = to
	}
}

// word gives the 64-bit word at an address outside the Go heap.
func word(addr uintptr) *uint64 {
	return *(**uint64)(unsafe.Pointer(&addr))
}

// handled finds where an operation goes on after an error.
func handled(b []byte, errno unix.Errno) (int, bool) {
	for i := range binErrs {
		e := int32(binary.LittleEndian.Uint32(b[binErr+8*i:]))
		if e == 0 {
			break
		}
		if e == anyErrno || unix.Errno(e) == errno {
			return int(binary.LittleEndian.Uint32(b[binErr+8*i+4:])), true
		}
	}
	return 0, false
}
