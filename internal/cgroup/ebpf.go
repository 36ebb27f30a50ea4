package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// instruction is the kernel's struct bpf_insn.
type instruction struct {
	code uint8
	regs uint8 // source in the upper half, destination in the lower
	off  int16
	imm  int32
}

// Operations that device programs use.
const (
	opLoadWord  = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	opMoveReg   = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
	opMove      = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	opAnd       = unix.BPF_ALU64 | unix.BPF_AND | unix.BPF_K
	opShift     = unix.BPF_ALU64 | unix.BPF_RSH | unix.BPF_K
	opJumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opJumpOther = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	opExit      = unix.BPF_JMP | unix.BPF_EXIT
)

// Bits of the access that is asked for (BPF_DEVCG_ACC_*), and kinds of devices (BPF_DEVCG_DEV_*).
const (
	accMknod, accRead, accWrite = 1, 2, 4
	devBlock, devChar           = 1, 2
)

// Registers: what is asked for.
const (
	regResult = 0
	regTmp    = 1 // the context at first
	regKind   = 2
	regAccess = 3 // the bits that no rule has decided yet
	regMajor  = 4
	regMinor  = 5
)

func insn(code uint8, dst, src uint8, off int16, imm int32) instruction {
	return instruction{code: code, regs: src<<4 | dst, off: off, imm: imm}
}

// deviceProgram compiles rules so that for every bit of access (read, write, mknod) the last rule that covers it decides:
// from the last rule to the first, a denial of an undecided bit ends in no, and an allowance takes its bits away; when none
// is left, the answer is yes.
func deviceProgram(rules []specs.LinuxDeviceCgroup) ([]instruction, error) {
	allowAll, rest := effective(rules)
	p := []instruction{
		insn(opLoadWord, regKind, regTmp, 0, 0),
		insn(opMoveReg, regAccess, regKind, 0, 0),
		insn(opShift, regAccess, 0, 0, 16),
		insn(opAnd, regKind, 0, 0, 0xffff),
		insn(opLoadWord, regMajor, regTmp, 4, 0),
		insn(opLoadWord, regMinor, regTmp, 8, 0),
	}
	for i := len(rest) - 1; i >= 0; i-- {
		block, err := ruleProgram(rest[i])
		if err != nil {
			return nil, err
		}
		p = append(p, block...)
	}
	verdict := int32(0)
	if allowAll {
		verdict = 1
	}
	return append(p, insn(opMove, regResult, 0, 0, verdict), insn(opExit, 0, 0, 0, 0)), nil
}

func ruleProgram(r specs.LinuxDeviceCgroup) ([]instruction, error) {
	bits, err := accessBits(r.Access)
	if err != nil {
		return nil, err
	}
	var decide []instruction
	if r.Allow {
		decide = []instruction{
			insn(opAnd, regAccess, 0, 0, ^bits),
			insn(opJumpOther, regAccess, 0, 2, 0),
			insn(opMove, regResult, 0, 0, 1),
			insn(opExit, 0, 0, 0, 0),
		}
	} else {
		decide = []instruction{
			insn(opMoveReg, regTmp, regAccess, 0, 0),
			insn(opAnd, regTmp, 0, 0, bits),
			insn(opJumpEqual, regTmp, 0, 2, 0),
			insn(opMove, regResult, 0, 0, 0),
			insn(opExit, 0, 0, 0, 0),
		}
	}
	var match []instruction
	switch r.Type {
	case "", "a":
	case "c":
		match = append(match, insn(opJumpOther, regKind, 0, 0, devChar))
	case "b":
		match = append(match, insn(opJumpOther, regKind, 0, 0, devBlock))
	default:
		return nil, fmt.Errorf("device rule has type %q: %w", r.Type, errdefs.ErrInvalidArgument)
	}
	if !wildcard(r.Major) {
		match = append(match, insn(opJumpOther, regMajor, 0, 0, int32(*r.Major)))
	}
	if !wildcard(r.Minor) {
		match = append(match, insn(opJumpOther, regMinor, 0, 0, int32(*r.Minor)))
	}
	for i := range match {
		match[i].off = int16(len(match) - i - 1 + len(decide))
	}
	return append(match, decide...), nil
}

func accessBits(access string) (int32, error) {
	if access == "" {
		access = "rwm"
	}
	if strings.Trim(access, "rwm") != "" {
		return 0, fmt.Errorf("device rule has access %q: %w", access, errdefs.ErrInvalidArgument)
	}
	var bits int32
	for bit, letter := range map[int32]string{accMknod: "m", accRead: "r", accWrite: "w"} {
		if strings.Contains(access, letter) {
			bits |= bit
		}
	}
	return bits, nil
}

func (i instruction) bytes() []byte {
	var b [8]byte
	b[0], b[1] = i.code, i.regs
	binary.NativeEndian.PutUint16(b[2:], uint16(i.off))
	binary.NativeEndian.PutUint32(b[4:], uint32(i.imm))
	return b[:]
}

// programs keeps loaded programs: most containers have the same rules, and loading one takes longer than attaching it.
var programs programCache

const programLimit = 16

type programCache struct {
	mu     sync.Mutex
	loaded map[string]int // descriptors; guarded by mu
}

// attach attaches the program of rules to the group whose directory is open as dir, instead of one attached before.
func (c *programCache) attach(dir int, rules []specs.LinuxDeviceCgroup) error {
	list, err := deviceProgram(rules)
	if err != nil {
		return err
	}
	code := make([]byte, 0, 8*len(list))
	for _, i := range list {
		code = append(code, i.bytes()...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fd, ok := c.loaded[string(code)]
	if !ok {
		if fd, err = loadProgram(code); err != nil {
			return err
		}
		if len(c.loaded) >= programLimit {
			for _, old := range c.loaded {
				unix.Close(old)
			}
			c.loaded = nil
		}
		if c.loaded == nil {
			c.loaded = make(map[string]int)
		}
		c.loaded[string(code)] = fd
	}
	return attachProgram(dir, fd)
}

// bpf is bpf(2); attr's layout is the kernel's.
func bpf[T any](cmd int, attr *T) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func loadProgram(code []byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	attr := struct {
		kind, count           uint32
		code, license         uint64
		logLevel, logSize     uint32
		log                   uint64
		kernelVersion, flags  uint32
		name                  [16]byte
		interfaceIndex, shape uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code) / 8),
		code:    uint64(uintptr(unsafe.Pointer(&code[0]))),
		license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	copy(attr.name[:], "kist_devices")
	fd, err := bpf(unix.BPF_PROG_LOAD, &attr)
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	if err != nil {
		return -1, fmt.Errorf("loading the device program: %w", err)
	}
	return fd, nil
}

type attachAttr struct{ target, program, kind, flags, replace uint32 }

func attachProgram(dir, fd int) error {
	old, err := attached(dir)
	if err != nil {
		return err
	}
	a := attachAttr{target: uint32(dir), program: uint32(fd), kind: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI}
	if old >= 0 {
		defer unix.Close(old)
		a.flags |= unix.BPF_F_REPLACE
		a.replace = uint32(old)
	}
	_, err = bpf(unix.BPF_PROG_ATTACH, &a)
	if errors.Is(err, unix.EINVAL) && old < 0 {
		return fmt.Errorf("attaching the device program: %w: %w", err, errdefs.ErrNotImplemented)
	}
	if err != nil {
		return fmt.Errorf("attaching the device program: %w", err)
	}
	return nil
}

// attached is a descriptor of the one program that is attached to a group, or -1.
func attached(dir int) (int, error) {
	var ids [1]uint32
	q := struct {
		target, kind, queryFlags, attachFlags uint32
		ids                                   uint64
		count, _                              uint32
		_                                     uint64
	}{target: uint32(dir), kind: unix.BPF_CGROUP_DEVICE, ids: uint64(uintptr(unsafe.Pointer(&ids[0]))), count: 1}
	_, err := bpf(unix.BPF_PROG_QUERY, &q)
	runtime.KeepAlive(&ids)
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		return -1, fmt.Errorf("asking for device programs: %w", err)
	}
	if q.count != 1 {
		return -1, nil
	}
	byID := struct{ id, next, flags uint32 }{id: ids[0]}
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, &byID)
	if err != nil {
		return -1, fmt.Errorf("opening the attached device program: %w", err)
	}
	return fd, nil
}

// restrictDevicesV2 attaches the rules as a program: version 2 has no file for them.
func (g *Group) restrictDevicesV2(rules []specs.LinuxDeviceCgroup) error {
	dir, err := unix.Openat(g.h.unified.fd, g.rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening cgroup %s: %w", g.path, err)
	}
	defer unix.Close(dir)
	return programs.attach(dir, rules)
}
