package seccomp

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// dispatch finds the tree by the architecture of the call. x32 has that of x86-64, and a bit in the number. A call that no tree
// is for ends the process: what the profile says of "open" says nothing of the call that has its number elsewhere.
func dispatch(arches []*architecture, trees map[*architecture][]segment) []unix.SockFilter {
	var a assembler
	blocks := map[uint32]label{}
	var order []uint32
	for _, arch := range arches {
		if _, ok := blocks[arch.audit]; ok {
			continue
		}
		order = append(order, arch.audit)
		var search label
		if arch.audit == unix.AUDIT_ARCH_X86_64 {
			x32 := a.treeOrKill(trees[archX32])
			own := a.treeOrKill(trees[archX8664])
			search = a.jump(opJge, x32Bit, x32, own)
		} else {
			search = a.tree(trees[arch])
		}
		blocks[arch.audit] = a.loadBefore(offNumber, search)
	}
	next := a.ret(unix.SECCOMP_RET_KILL_PROCESS)
	for i := len(order) - 1; i >= 0; i-- {
		next = a.jump(opJeq, order[i], blocks[order[i]], next)
	}
	a.loadBefore(offArch, next)
	return a.program()
}

func (a *assembler) treeOrKill(s []segment) label {
	if len(s) == 0 {
		return a.ret(unix.SECCOMP_RET_KILL_PROCESS)
	}
	return a.tree(s)
}

// tree searches for the segment of the number in the accumulator.
func (a *assembler) tree(s []segment) label {
	if len(s) == 1 {
		return a.segment(s[0])
	}
	// One number in the midst of others that are all treated alike is found by one comparison.
	if len(s) == 3 && s[0].same(s[2]) && s[1].first+1 == s[2].first {
		return a.jump(opJeq, s[1].first, a.segment(s[1]), a.segment(s[0]))
	}
	mid := len(s) / 2
	above := a.tree(s[mid:])
	below := a.tree(s[:mid])
	return a.jump(opJge, s[mid].first, above, below)
}

func (a *assembler) segment(s segment) label {
	next := a.ret(s.final)
	for i := len(s.rules) - 1; i >= 0; i-- {
		next = a.rule(s.rules[i], next)
	}
	return next
}

// rule returns its action if all conditions hold, and goes on to otherwise.
func (a *assembler) rule(r rule, otherwise label) label {
	next := a.ret(r.action)
	for i := len(r.conditions) - 1; i >= 0; i-- {
		next = a.condition(r.conditions[i], next, otherwise)
	}
	return next
}

// condition compares the upper halves first. On a 32-bit architecture there is no more of an argument than the lower half, and
// no more is meant by a profile's value.
func (a *assembler) condition(c condition, yes, no label) label {
	high, low := uint32(offArgs+8*c.index+4), uint32(offArgs+8*c.index)
	h, l := uint32(c.value>>32), uint32(c.value)
	var lower label
	switch c.op {
	case specs.OpEqualTo:
		lower = a.jump(opJeq, l, yes, no)
	case specs.OpNotEqual:
		lower = a.jump(opJeq, l, no, yes)
	case specs.OpGreaterThan:
		lower = a.jump(opJgt, l, yes, no)
	case specs.OpGreaterEqual:
		lower = a.jump(opJge, l, yes, no)
	case specs.OpLessThan:
		lower = a.jump(opJge, l, no, yes)
	case specs.OpLessEqual:
		lower = a.jump(opJgt, l, no, yes)
	case specs.OpMaskedEqual: // the value is the mask
		lower = a.maskBefore(l, a.jump(opJeq, uint32(c.two), yes, no))
	}
	lower = a.loadBefore(low, lower)
	if c.narrow {
		return lower
	}
	var upper label
	switch c.op {
	case specs.OpEqualTo:
		upper = a.jump(opJeq, h, lower, no)
	case specs.OpNotEqual:
		upper = a.jump(opJeq, h, lower, yes)
	case specs.OpGreaterThan, specs.OpGreaterEqual:
		upper = a.jump(opJgt, h, yes, a.jump(opJeq, h, lower, no))
	case specs.OpLessThan, specs.OpLessEqual:
		upper = a.jump(opJgt, h, no, a.jump(opJeq, h, lower, yes))
	case specs.OpMaskedEqual:
		upper = a.maskBefore(h, a.jump(opJeq, uint32(c.two>>32), lower, no))
	}
	return a.loadBefore(high, upper)
}
