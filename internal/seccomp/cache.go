package seccomp

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/keyed"
)

// keptFilters bounds the memory: nearly all containers of a host share one profile.
const keptFilters = 64

// filters remembers compiled profiles.
var filters = keyed.NewMemo[string, *Filter](keptFilters)

// fingerprint writes down all of a profile: equal profiles, and only those, have the same one.
func fingerprint(p *specs.LinuxSeccomp) string {
	var b strings.Builder
	b.Grow(8 << 10)
	var digits [20]byte
	number := func(n uint64) { b.Write(strconv.AppendUint(digits[:0], n, 36)); b.WriteByte(' ') }
	// Every text goes with its length, so that no two ways of cutting look the same.
	text := func(s string) { number(uint64(len(s))); b.WriteString(s) }
	optional := func(n *uint) {
		if n == nil {
			b.WriteByte('-')
			return
		}
		number(uint64(*n))
	}
	text(string(p.DefaultAction))
	optional(p.DefaultErrnoRet)
	text(p.ListenerPath)
	text(p.ListenerMetadata)
	number(uint64(len(p.Architectures)))
	for _, a := range p.Architectures {
		text(string(a))
	}
	if p.Flags == nil {
		b.WriteByte('-')
	}
	number(uint64(len(p.Flags)))
	for _, f := range p.Flags {
		text(string(f))
	}
	for _, s := range p.Syscalls {
		text(string(s.Action))
		optional(s.ErrnoRet)
		number(uint64(len(s.Names)))
		for _, n := range s.Names {
			text(n)
		}
		number(uint64(len(s.Args)))
		for _, a := range s.Args {
			number(uint64(a.Index))
			number(a.Value)
			number(a.ValueTwo)
			text(string(a.Op))
		}
	}
	return b.String()
}
