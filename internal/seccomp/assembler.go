package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Offsets in the kernel's struct seccomp_data; both architectures are little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// Operations that filters use.
const (
	opLoad = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump = unix.BPF_JMP | unix.BPF_JA
	opJeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opJge  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opJgt  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opRet  = unix.BPF_RET | unix.BPF_K
)

// maxJump is how far a comparison jumps.
const maxJump = 255

// assembler writes a program from its end to its start: jumps go forward only, so the place to jump to is always known. What is
// returned at the end of many paths is written once for all that can reach it.
type assembler struct {
	reversed []unix.SockFilter
	returns  map[action]label // the latest place of each
}

// label is a place in the program, counted from its end: 1 is the last instruction.
type label int

func (a *assembler) emit(in unix.SockFilter) label {
	a.reversed = append(a.reversed, in)
	return label(len(a.reversed))
}

// distance is how much an instruction that is written next would jump over to get to l.
func (a *assembler) distance(l label) int { return len(a.reversed) - int(l) }

// ret is a place that returns, possibly an old one. Trees are small enough that one in reach now mostly stays in reach.
func (a *assembler) ret(act action) label {
	if l, ok := a.returns[act]; ok && a.distance(l) <= maxJump/2 {
		return l
	}
	return a.newRet(act)
}

func (a *assembler) newRet(act action) label {
	if a.returns == nil {
		a.returns = make(map[action]label)
	}
	l := a.emit(unix.SockFilter{Code: opRet, K: uint32(act)})
	a.returns[act] = l
	return l
}

// jump compares the accumulator and goes to yes or no.
func (a *assembler) jump(op uint16, k uint32, yes, no label) label {
	// Bringing one near may take the other out of reach by an instruction.
	yes = a.near(yes, maxJump-1)
	no = a.near(no, maxJump)
	return a.emit(unix.SockFilter{Code: op, K: k, Jt: uint8(a.distance(yes)), Jf: uint8(a.distance(no))})
}

// near is l, or a place in reach that goes there.
func (a *assembler) near(l label, reach int) label {
	if a.distance(l) <= reach {
		return l
	}
	if in := a.reversed[l-1]; in.Code == opRet {
		return a.newRet(action(in.K))
	}
	return a.emit(unix.SockFilter{Code: opJump, K: uint32(a.distance(l))})
}

// before makes the instruction that is written next one that falls through to l.
func (a *assembler) before(l label) {
	if a.distance(l) > 0 {
		a.emit(unix.SockFilter{Code: opJump, K: uint32(a.distance(l))})
	}
}

// loadBefore loads a word of the call's data and goes on at l.
func (a *assembler) loadBefore(offset uint32, l label) label {
	a.before(l)
	return a.emit(unix.SockFilter{Code: opLoad, K: offset})
}

// maskBefore masks the accumulator and goes on at l.
func (a *assembler) maskBefore(mask uint32, l label) label {
	a.before(l)
	return a.emit(unix.SockFilter{Code: opAnd, K: mask})
}

func (a *assembler) program() []unix.SockFilter {
	slices.Reverse(a.reversed)
	return a.reversed
}
