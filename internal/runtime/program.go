package runtime

import (
	"encoding/binary"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Pseudo system calls of the interpreters. Everything else in a program is a real one.
const (
	opJump = -1 // go to Target
	opIfEq = -2 // if (mem[a0] & a1) == a2 go to Target
	opFail = -3 // end with errno a0
	opSet  = -4 // mem[a0] = a1
)

// anyErrno in a handler matches every error.
const anyErrno = -1

type argKind uint8

const (
	argImm argKind = iota // the value itself
	argRef                // an address in the program's memory
	argMem                // the 64-bit word at an address in the program's memory
)

// arg is an argument of an operation.
type arg struct {
	kind argKind
	v    uint64
}

func imm[T ~int | ~uint | ~int64 | ~uint64 | ~uint32 | ~int32 | ~uintptr](v T) arg {
	return arg{argImm, uint64(v)}
}

// ref is an offset in the program's memory.
type ref uint64

// slot is the offset of a 64-bit word that holds a result.
type slot uint64

func (r ref) arg() arg  { return arg{argRef, uint64(r)} }
func (s slot) arg() arg { return arg{argMem, uint64(s)} }

type label int32

// handler says where an operation that failed with errno goes on.
type handler struct {
	errno int32
	to    label
}

// op is one operation of a program.
type op struct {
	nr    int32
	kinds [6]argKind // of the arguments
	nerrs uint8
	args  [6]uint64
	store slot // where the result goes; 0: nowhere
	errs  [binErrs]handler
	to    label // of pseudo operations
	step  string
	path  string
}

// on adds a handler: the errno makes the program go on at l.
func (o *op) on(errno unix.Errno, l label) *op {
	return o.handle(handler{int32(errno), l})
}

// onAny makes every error that no other handler names go on at l.
func (o *op) onAny(l label) *op {
	return o.handle(handler{anyErrno, l})
}

// ignore makes the program go on with the next operation when one of the errors occurs.
func (o *op) ignore(errnos ...unix.Errno) *op {
	for _, e := range errnos {
		o.handle(handler{int32(e), labelNext})
	}
	return o
}

func (o *op) handle(h handler) *op {
	if int(o.nerrs) == len(o.errs) {
		panic("runtime: an operation has too many error handlers")
	}
	o.errs[o.nerrs] = h
	o.nerrs++
	return o
}

func (o *op) handlers() []handler { return o.errs[:o.nerrs] }

// setArgs gives the operation its arguments.
func (o *op) setArgs(args ...arg) {
	for i, a := range args {
		o.args[i], o.kinds[i] = a.v, a.kind
	}
}

// at names the step and the path for the error that a failure becomes.
func (o *op) at(step, path string) *op {
	o.step, o.path = step, path
	return o
}

// section is a list of operations that runs in one process.
type section struct {
	ops    []op
	labels []int32 // label -> index of an operation
}

// labelNext is the operation after the one that has it.
const labelNext label = -1

func (s *section) label() label {
	s.labels = append(s.labels, -1)
	return label(len(s.labels) - 1)
}

func (s *section) bind(l label) { s.labels[l] = int32(len(s.ops)) }

func (s *section) target(l label, index int) int {
	if l == labelNext {
		return index + 1
	}
	return int(s.labels[l])
}

// openat2 is call(SYS_OPENAT2) that is repeated while the kernel says that it must be: a rename or mount anywhere came between, and
// it cannot vouch for a ".." (openat2(2), EAGAIN).
func (s *section) openat2(args ...arg) *op {
	again := s.label()
	s.bind(again)
	return s.call(unix.SYS_OPENAT2, args...).on(unix.EAGAIN, again)
}

// assistKind is what a child asks its parent for.
type assistKind uint32

const (
	assistReady   assistKind = iota + 1 // parked: waits for Start
	assistMaps                          // user and time namespace want to be written
	assistTarget                        // a mount target is missing
	assistCwd                           // the working directory is missing
	assistCopyUp                        // a tmpfs wants the content of what it covers
	assistConsole                       // the terminal's master comes with this message
)

// assist is a request of the child to its parent, by its index in Program.assists.
type assist struct {
	kind assistKind
	path string
	file bool // the target is a file, not a directory
	fd   slot // of the tmpfs
}

// Program is a set-up, compiled: operations for the parent, run before the new process exists, operations for the new
// process, and the memory that both refer to.
type Program struct {
	host, child section
	mem         []byte
	relocs      []uint32 // offsets of words in mem that hold addresses
	strings     map[string]ref
	assists     []assist
	// fds are the slots whose descriptors the child keeps while it is set up: results of the host section and
	// descriptors given by the caller.
	fds []slot
	// owned are the slots among fds that the host section opened.
	owned []slot
	// hold are the slots whose descriptors the parent keeps as long as the container lives.
	hold []slot
	// gaps are the pairs of words with the ranges of descriptors that the child closes at once.
	gaps   []slot
	flags  uint64 // of clone3
	cgroup slot   // of the directory for CLONE_INTO_CGROUP

	// uidMaps and gidMaps are those of a new user namespace.
	uidMaps, gidMaps []specs.LinuxIDMapping

	Warnings []string
}

// The head of a program's memory.
const (
	headFailIndex = 0  // uint32: index of the operation that failed, plus one
	headFailErrno = 4  // uint32
	headTID       = 8  // int32, by CLONE_PARENT_SETTID
	headPIDFD     = 16 // int32
	headMaskFull  = 24 // signal mask with all bits set
	headMaskOld   = 32
	headClone     = 40 // struct clone_args, 88 bytes
	headSocket    = 128
	headMessage   = 136 // message to the parent, 8 bytes
	headReply     = 144
	headCount     = 152 // result of the read of a reply
	headMaskNone  = 160 // signal mask with no bit set
	headWait      = 168 // status of the wait that reaps a child that failed
	headSize      = 192
)

const (
	slotSocket = slot(headSocket)
	slotReply  = slot(headReply)
	slotCount  = slot(headCount)
)

func newProgram() *Program {
	// Room for what a container with docker's defaults needs: growing costs more than the rest.
	p := &Program{mem: make([]byte, headSize, 16<<10), strings: make(map[string]ref, 160)}
	p.child.ops, p.child.labels = make([]op, 0, 384), make([]int32, 0, 160)
	p.host.ops = make([]op, 0, 48)
	binary.LittleEndian.PutUint64(p.mem[headMaskFull:], ^uint64(0))
	return p
}

// align makes memory's end a multiple of a word.
func (p *Program) align() {
	for len(p.mem)%8 != 0 {
		p.mem = append(p.mem, 0)
	}
}

// str puts a string that ends in a zero byte into memory.
func (p *Program) str(s string) ref {
	if r, ok := p.strings[s]; ok {
		return r
	}
	r := ref(len(p.mem))
	p.mem = append(append(p.mem, s...), 0)
	p.strings[s] = r
	return r
}

// bytes puts b into memory, aligned to 8.
func (p *Program) bytes(b []byte) ref {
	p.align()
	r := ref(len(p.mem))
	p.mem = append(p.mem, b...)
	p.align()
	return r
}

// words puts 64-bit words into memory.
func (p *Program) words(w ...uint64) ref {
	p.align()
	r := ref(len(p.mem))
	for _, v := range w {
		p.mem = binary.LittleEndian.AppendUint64(p.mem, v)
	}
	return r
}

// zeros reserves n bytes.
func (p *Program) zeros(n int) ref {
	p.align()
	r := ref(len(p.mem))
	p.mem = append(p.mem, make([]byte, n)...)
	p.align()
	return r
}

// addrs puts an array of addresses into memory, with a null at its end.
func (p *Program) addrs(refs ...ref) ref {
	r := p.words(make([]uint64, len(refs)+1)...)
	for i, a := range refs {
		p.pointer(uint64(r)+uint64(i)*8, a)
	}
	return r
}

// pointer makes the word at an offset hold the address of a.
func (p *Program) pointer(at uint64, a ref) {
	binary.LittleEndian.PutUint64(p.mem[at:], uint64(a))
	p.relocs = append(p.relocs, uint32(at))
}

// slot reserves a word for a result. It holds -1 until then, which is no descriptor.
func (p *Program) slot() slot { return slot(p.words(^uint64(0))) }

// input reserves a word that the parent fills with one of its descriptors.
func (p *Program) input() slot {
	s := p.slot()
	p.fds = append(p.fds, s)
	return s
}

// opened reserves a word for a descriptor that the host section opens for the child.
func (p *Program) opened() slot {
	s := p.input()
	p.owned = append(p.owned, s)
	return s
}

func (p *Program) assist(a assist) uint64 {
	p.assists = append(p.assists, a)
	return uint64(a.kind) | uint64(len(p.assists)-1)<<32
}

func (s *section) add(nr int) *op {
	s.ops = append(s.ops, op{nr: int32(nr)})
	return &s.ops[len(s.ops)-1]
}

// call adds a system call. The pointer is valid until the next operation is added.
func (s *section) call(nr int, args ...arg) *op {
	o := s.add(nr)
	o.setArgs(args...)
	return o
}

func (s *section) jump(l label) { s.add(opJump).to = l }

func (s *section) fail(e unix.Errno) *op { return s.call(opFail, imm(e)) }

// ifEq jumps when the masked word equals v.
func (s *section) ifEq(at slot, mask, v uint64, l label) {
	s.call(opIfEq, ref(at).arg(), imm(mask), imm(v)).to = l
}

func (s *section) set(at slot, v arg) { s.call(opSet, ref(at).arg(), v) }

// into stores the result of the operation.
func (o *op) into(s slot) *op {
	o.store = s
	return o
}

// check refuses a program with a label that leads nowhere.
func (s *section) check() error {
	for i, l := range s.labels {
		if l < 0 {
			return fmt.Errorf("label %d is not bound", i)
		}
	}
	return nil
}
