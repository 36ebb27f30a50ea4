package runtime

import (
	"fmt"
	"strconv"
	"strings"
)

// String shows the program as a person reads it: the parent's operations, then the child's, one a line, each with its
// label if another leads there, its system call and arguments, where the result goes, and what happens on errors.
func (p *Program) String() string {
	var b strings.Builder
	for _, s := range []struct {
		name string
		ops  *section
	}{{"parent", &p.host}, {"child", &p.child}} {
		fmt.Fprintf(&b, "%s:\n", s.name)
		p.section(&b, s.ops)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

func (p *Program) section(b *strings.Builder, s *section) {
	led := map[int]bool{}
	for i := range s.ops {
		o := &s.ops[i]
		if o.nr == opJump || o.nr == opIfEq {
			led[s.target(o.to, i)] = true
		}
		for _, h := range o.handlers() {
			if h.to != labelNext {
				led[s.target(h.to, i)] = true
			}
		}
	}
	for i := range s.ops {
		mark := ""
		if led[i] {
			mark = strconv.Itoa(i) + ":"
		}
		fmt.Fprintf(b, "%6s ", mark)
		p.operation(b, s, i)
		b.WriteByte('\n')
	}
}

func (p *Program) operation(b *strings.Builder, s *section, i int) {
	o := &s.ops[i]
	switch o.nr {
	case opJump:
		fmt.Fprintf(b, "goto %d", s.target(o.to, i))
		return
	case opIfEq:
		fmt.Fprintf(b, "if $%d & %#x == %#x goto %d", o.args[0], o.args[1], o.args[2], s.target(o.to, i))
		return
	case opSet:
		fmt.Fprintf(b, "$%d = %s", o.args[0], p.argument(o, 1))
		return
	case opFail:
		fmt.Fprintf(b, "fail %s", errnoName(int32(o.args[0])))
	default:
		if o.store != 0 {
			fmt.Fprintf(b, "$%d = ", uint64(o.store))
		}
		n := len(o.args)
		for n > 0 && o.args[n-1] == 0 && o.kinds[n-1] == argImm {
			n--
		}
		args := make([]string, n)
		for j := range args {
			args[j] = p.argument(o, j)
		}
		fmt.Fprintf(b, "%s(%s)", callName(int(o.nr)), strings.Join(args, ", "))
	}
	for _, h := range o.handlers() {
		to := "goto " + strconv.Itoa(s.target(h.to, i))
		if h.to == labelNext {
			to = "go on"
		}
		fmt.Fprintf(b, ", %s: %s", errnoName(h.errno), to)
	}
	if what := strings.TrimSpace(o.step + " " + o.path); what != "" {
		fmt.Fprintf(b, "  # %s", what)
	}
}

// argument shows strings by their text, and other memory by its offset.
func (p *Program) argument(o *op, i int) string {
	a := arg{o.kinds[i], o.args[i]}
	switch a.kind {
	case argMem:
		return "$" + strconv.FormatUint(a.v, 10)
	case argRef:
		for s, r := range p.strings {
			if uint64(r) == a.v {
				return strconv.Quote(s)
			}
		}
		return "&" + strconv.FormatUint(a.v, 10)
	}
	if n := int64(a.v); n < 0 {
		return strconv.FormatInt(n, 10)
	}
	if a.v < 4096 {
		return strconv.FormatUint(a.v, 10)
	}
	return fmt.Sprintf("%#x", a.v)
}
