package seccomp

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// condition compares one argument of a system call.
type condition struct {
	index uint
	op    specs.LinuxSeccompOperator
	value uint64
	two   uint64
	// narrow: only the lower 32 bits count.
	narrow bool
}

// rule is an action under conditions, all of which must hold.
type rule struct {
	conditions []condition
	action     action
}

// call is all that is said about one system call.
type call struct {
	nr    uint32
	rules []rule
	// final is what happens if no rule matches; it is the default action unless a rule without conditions says otherwise.
	final    action
	finished bool // final comes from a rule
}

// maxArguments is how many a system call has.
const maxArguments = 6

// compile makes the segments of one architecture.
func (a *architecture) compile(p *specs.LinuxSeccomp, def action) ([]segment, error) {
	calls := map[uint32]*call{}
	newest := -1
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		act, err := toAction(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		sets, err := a.conditionSets(s.Args)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		for _, name := range s.Names {
			if nr, ok := a.calls.lookup(name); ok {
				if nr <= a.ordinary {
					newest = max(newest, int(nr))
				}
				// A rule that says what happens anyway must not outdo one with conditions.
				if act != def {
					a.add(calls, nr, sets, act, def)
				}
			}
			if m, ok := a.multiplexed[name]; ok && act != def && len(s.Args) == 0 {
				a.addMultiplexed(calls, m, act, def)
			}
		}
	}
	return a.segments(calls, def, newest, p), nil
}

func (a *architecture) add(calls map[uint32]*call, nr uint32, sets [][]condition, act, def action) {
	c := calls[nr]
	if c == nil {
		c = &call{nr: nr, final: def}
		calls[nr] = c
	}
	if c.finished {
		return
	}
	if len(sets) == 0 {
		c.rules, c.final, c.finished = nil, act, true
		return
	}
	for _, set := range sets {
		c.rules = append(c.rules, rule{set, act})
	}
}

func (a *architecture) addMultiplexed(calls map[uint32]*call, m multiplexer, act, def action) {
	nr, ok := a.calls.lookup(m.call)
	if !ok {
		return
	}
	first := []condition{{op: specs.OpEqualTo, value: m.nr, narrow: !a.wide}}
	a.add(calls, nr, [][]condition{first}, act, def)
}

// conditionSets: all conditions of a rule must hold, unless two are about the same argument: then, as runc has it, each is a
// rule of its own.
func (a *architecture) conditionSets(args []specs.LinuxSeccompArg) ([][]condition, error) {
	if len(args) == 0 {
		return nil, nil
	}
	var seen [maxArguments]bool
	repeated := false
	list := make([]condition, 0, len(args))
	for _, arg := range args {
		if arg.Index >= maxArguments {
			return nil, fmt.Errorf("argument %d: a system call has %d: %w", arg.Index, maxArguments, errdefs.ErrInvalidArgument)
		}
		switch arg.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual,
			specs.OpGreaterThan, specs.OpMaskedEqual:
		default:
			return nil, fmt.Errorf("unknown operator %q: %w", arg.Op, errdefs.ErrInvalidArgument)
		}
		repeated = repeated || seen[arg.Index]
		seen[arg.Index] = true
		list = append(list, condition{arg.Index, arg.Op, arg.Value, arg.ValueTwo, !a.wide})
	}
	if !repeated {
		return [][]condition{list}, nil
	}
	sets := make([][]condition, len(list))
	for i := range list {
		sets[i] = list[i : i+1]
	}
	return sets, nil
}

// segment is a range of numbers, up to the next segment's first, that are treated alike.
type segment struct {
	first uint32
	rules []rule
	final action
}

func (s segment) same(o segment) bool {
	return s.final == o.final && len(s.rules) == 0 && len(o.rules) == 0
}

// segments covers all numbers of the architecture.
func (a *architecture) segments(calls map[uint32]*call, def action, newest int, p *specs.LinuxSeccomp) []segment {
	list := make([]*call, 0, len(calls))
	for _, c := range calls {
		list = append(list, c)
	}
	slices.SortFunc(list, func(x, y *call) int { return int(int64(x.nr) - int64(y.nr)) })

	unknown := def
	if newest >= 0 && denies(p) {
		unknown = unix.SECCOMP_RET_ERRNO | action(unix.ENOSYS)
	}
	var out []segment
	push := func(s segment) {
		if n := len(out); n > 0 && out[n-1].same(s) {
			return
		}
		out = append(out, s)
	}
	gap := func(from, to uint64) { // [from, to)
		known := uint64(newest) + 1 // newest may be -1
		if newest < 0 {
			known = from
		}
		if from < to && from < known {
			push(segment{first: uint32(from), final: def})
			from = known
		}
		if from < to {
			push(segment{first: uint32(from), final: unknown})
		}
	}
	next := uint64(0)
	for _, c := range list {
		gap(next, uint64(c.nr))
		push(segment{first: c.nr, rules: c.rules, final: c.final})
		next = uint64(c.nr) + 1
	}
	gap(next, 1<<32)
	return out
}

// denies tells whether a call that the profile does not name is refused, so that a program that tries a new one and falls back
// to an older one needs ENOSYS to know. A tracer answers for itself.
func denies(p *specs.LinuxSeccomp) bool {
	switch p.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace:
		return false
	}
	return true
}
