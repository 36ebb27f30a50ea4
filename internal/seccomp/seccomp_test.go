package seccomp

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// data is the kernel's struct seccomp_data.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

func (d data) word(off uint32) (uint32, bool) {
	switch {
	case off == offNumber:
		return d.nr, true
	case off == offArch:
		return d.arch, true
	case off >= offArgs && off < 64 && off%4 == 0:
		v := d.args[(off-offArgs)/8]
		if (off-offArgs)%8 == 4 {
			v >>= 32
		}
		return uint32(v), true
	}
	return 0, false
}

// run interprets a program as the kernel does, and fails on what the kernel would refuse to load.
func run(t testing.TB, p []unix.SockFilter, d data) action {
	t.Helper()
	var acc uint32
	for pc := 0; pc < len(p); pc++ {
		in := p[pc]
		taken := false
		switch in.Code {
		case opLoad:
			w, ok := d.word(in.K)
			if !ok {
				t.Fatalf("instruction %d loads from offset %d", pc, in.K)
			}
			acc = w
			continue
		case opAnd:
			acc &= in.K
			continue
		case opRet:
			return action(in.K)
		case opJump:
			pc += int(in.K)
			continue
		case opJeq:
			taken = acc == in.K
		case opJge:
			taken = acc >= in.K
		case opJgt:
			taken = acc > in.K
		default:
			t.Fatalf("instruction %d has code %#x", pc, in.Code)
		}
		if taken {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the program does not return")
	return 0
}

// evaluate says what a profile means, without cleverness.
func evaluate(t testing.TB, p *specs.LinuxSeccomp, d data) action {
	t.Helper()
	def, err := toAction(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	arches, err := architectures(p.Architectures)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(arches, func(a *architecture) bool {
		return a.audit == d.arch && (a.audit != unix.AUDIT_ARCH_X86_64 || (d.nr >= x32Bit) == (a == archX32))
	})
	if at < 0 {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	a := arches[at]
	newest := int64(-1)
	conditional, always := []action{}, []action{}
	for _, s := range p.Syscalls {
		act, err := toAction(s.Action, s.ErrnoRet)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range s.Names {
			nr, ok := a.calls.lookup(n)
			if ok && nr <= a.ordinary {
				newest = max(newest, int64(nr))
			}
			args := s.Args
			if m, is := a.multiplexed[n]; is && len(args) == 0 {
				if shared, _ := a.calls.lookup(m.call); shared == d.nr && d.args[0]&0xffffffff == m.nr && act != def {
					conditional = append(conditional, act)
				}
			}
			if !ok || nr != d.nr || act == def {
				continue
			}
			if len(args) == 0 {
				always = append(always, act)
			} else if matches(a, args, d) {
				conditional = append(conditional, act)
			}
		}
	}
	switch {
	case len(always) > 0:
		return always[0]
	case len(conditional) > 0:
		return conditional[0]
	case newest >= 0 && int64(d.nr) > newest && denies(p) && !named(a, p, d.nr, def):
		return unix.SECCOMP_RET_ERRNO | action(unix.ENOSYS)
	}
	return def
}

// named: calls outside of the ordinary sequence can have rules though they do not count as new.
func named(a *architecture, p *specs.LinuxSeccomp, nr uint32, def action) bool {
	for _, s := range p.Syscalls {
		if act, _ := toAction(s.Action, s.ErrnoRet); act == def {
			continue
		}
		for _, n := range s.Names {
			if have, ok := a.calls.lookup(n); ok && have == nr {
				return true
			}
		}
	}
	return false
}

func matches(a *architecture, args []specs.LinuxSeccompArg, d data) bool {
	indices := map[uint]bool{}
	for _, c := range args {
		indices[c.Index] = true
	}
	any := len(indices) < len(args)
	for _, c := range args {
		x, v, two := d.args[c.Index], c.Value, c.ValueTwo
		if !a.wide {
			x, v, two = x&0xffffffff, v&0xffffffff, two&0xffffffff
		}
		var ok bool
		switch c.Op {
		case specs.OpEqualTo:
			ok = x == v
		case specs.OpNotEqual:
			ok = x != v
		case specs.OpGreaterThan:
			ok = x > v
		case specs.OpGreaterEqual:
			ok = x >= v
		case specs.OpLessThan:
			ok = x < v
		case specs.OpLessEqual:
			ok = x <= v
		case specs.OpMaskedEqual:
			ok = x&v == two
		}
		if ok == any {
			return any
		}
	}
	return !any
}

func dockerProfile(t testing.TB) *specs.LinuxSeccomp {
	t.Helper()
	s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_CHROOT"}}}}
	p, err := profile.GetDefaultProfile(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// interesting yields calls worth asking for: every number near a known one, on every architecture, with arguments near values
// that the profile compares with.
func interesting(p *specs.LinuxSeccomp, r *rand.Rand, rounds int, f func(data)) {
	values := []uint64{0, 1, 0xffffffff, 1 << 32, 1<<64 - 1}
	for _, s := range p.Syscalls {
		for _, a := range s.Args {
			values = append(values, a.Value, a.Value+1, a.Value-1, a.ValueTwo, a.Value^1<<40, a.Value|a.ValueTwo<<32)
		}
	}
	ask := func(arch, nr uint32) {
		d := data{nr: nr, arch: arch}
		for i := range d.args {
			d.args[i] = values[r.IntN(len(values))]
		}
		f(d)
	}
	for range rounds {
		for nr := uint32(0); nr < 600; nr++ {
			for _, arch := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM} {
				ask(arch, nr)
			}
			ask(unix.AUDIT_ARCH_X86_64, nr|x32Bit)
			ask(unix.AUDIT_ARCH_X86_64, nr|0x80000000)
			ask(unix.AUDIT_ARCH_ARM, nr|0xf0000)
		}
		ask(unix.AUDIT_ARCH_S390X, 1)
		ask(unix.AUDIT_ARCH_X86_64, 1<<32-1)
	}
}

func check(t testing.TB, p *specs.LinuxSeccomp, r *rand.Rand, rounds int) {
	t.Helper()
	f, err := compile(p)
	if err != nil {
		t.Fatal(err)
	}
	interesting(p, r, rounds, func(d data) {
		if got, want := run(t, f.Program, d), evaluate(t, p, d); got != want {
			t.Fatalf("call %d (%#x) of architecture %#x, arguments %#x: %#x, want %#x\nprofile %+v",
				d.nr, d.nr, d.arch, d.args, got, want, p)
		}
	})
}

func TestDockerProfile(t *testing.T) {
	p := dockerProfile(t)
	check(t, p, rand.New(rand.NewPCG(1, 2)), 2)
	f, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(f.Program))
	if len(f.Program) > 420 {
		t.Errorf("%d instructions", len(f.Program))
	}
}

func TestOperators(t *testing.T) {
	for _, op := range []specs.LinuxSeccompOperator{
		specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan,
		specs.OpMaskedEqual,
	} {
		for _, v := range []uint64{0, 5, 0xffffffff, 1 << 32, 0x5_0000_0005, 1<<64 - 1} {
			check(t, &specs.LinuxSeccomp{
				DefaultAction: specs.ActErrno,
				Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchAARCH64, specs.ArchARM},
				Syscalls: []specs.LinuxSyscall{{
					Names: []string{"personality", "socket"}, Action: specs.ActAllow,
					Args: []specs.LinuxSeccompArg{{Index: 2, Value: v, ValueTwo: v & 0x5_0000_0005, Op: op}},
				}},
			}, rand.New(rand.NewPCG(3, v)), 1)
		}
	}
}

// randomProfile makes profiles of few names, so that rules meet.
func randomProfile(r *rand.Rand) *specs.LinuxSeccomp {
	names := []string{
		"read", "write", "open", "close", "socket", "bind", "shmget", "ipc", "socketcall", "personality", "clone", "clone3", "openat",
		"set_tls", "arch_prctl", "futex_waitv", "preadv2", "no_such_call", "mmap", "mmap2", "execve", "setsockopt",
	}
	actions := []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActTrap, specs.ActLog, specs.ActTrace,
	}
	ops := []specs.LinuxSeccompOperator{
		specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan,
		specs.OpMaskedEqual,
	}
	errno := func() *uint {
		if r.IntN(2) == 0 {
			return nil
		}
		n := uint(r.IntN(50))
		return &n
	}
	p := &specs.LinuxSeccomp{DefaultAction: actions[r.IntN(len(actions))], DefaultErrnoRet: errno()}
	for _, a := range []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM, specs.ArchS390} {
		if r.IntN(3) > 0 {
			p.Architectures = append(p.Architectures, a)
		}
	}
	for range r.IntN(12) {
		s := specs.LinuxSyscall{Action: actions[r.IntN(len(actions))], ErrnoRet: errno()}
		for range 1 + r.IntN(4) {
			s.Names = append(s.Names, names[r.IntN(len(names))])
		}
		if r.IntN(2) == 0 {
			for range 1 + r.IntN(3) {
				s.Args = append(s.Args, specs.LinuxSeccompArg{
					Index: uint(r.IntN(6)), Op: ops[r.IntN(len(ops))],
					Value: r.Uint64() >> r.IntN(64), ValueTwo: r.Uint64() >> r.IntN(64),
				})
			}
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

func TestRandomProfiles(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 4))
		check(t, randomProfile(r), r, 1)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 5))
		check(t, randomProfile(r), r, 1)
	})
}

func TestRefused(t *testing.T) {
	big := uint(5000)
	allow := func(s specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{s}}
	}
	huge := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(1100) {
		huge.Syscalls = append(huge.Syscalls, specs.LinuxSyscall{
			Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: i, Op: specs.OpEqualTo}},
		})
	}
	for name, c := range map[string]struct {
		p    *specs.LinuxSeccomp
		want error
	}{
		"listener":     {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x"}, errdefs.ErrNotImplemented},
		"notify":       {&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, errdefs.ErrNotImplemented},
		"no default":   {&specs.LinuxSeccomp{}, errdefs.ErrInvalidArgument},
		"action":       {allow(specs.LinuxSyscall{Names: []string{"read"}, Action: "SCMP_ACT_X"}), errdefs.ErrInvalidArgument},
		"errno":        {allow(specs.LinuxSyscall{Action: specs.ActErrno, ErrnoRet: &big}), errdefs.ErrInvalidArgument},
		"operator":     {allow(specs.LinuxSyscall{Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "X"}}}), errdefs.ErrInvalidArgument},
		"argument":     {allow(specs.LinuxSyscall{Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6}}}), errdefs.ErrInvalidArgument},
		"architecture": {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"x86"}}, errdefs.ErrInvalidArgument},
		"flag":         {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"X"}}, errdefs.ErrInvalidArgument},
		"too long":     {huge, errdefs.ErrInvalidArgument},
	} {
		if _, err := Compile(c.p); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestFlags(t *testing.T) {
	f, err := Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog},
	})
	if err != nil || f.Flags != unix.SECCOMP_FILTER_FLAG_LOG {
		t.Errorf("flags %#x, %v", f.Flags, err)
	}
}

func TestCached(t *testing.T) {
	a, err := Compile(dockerProfile(t))
	if err != nil {
		t.Fatal(err)
	}
	p := dockerProfile(t)
	if b, _ := Compile(p); a != b {
		t.Error("an equal profile was compiled anew")
	}
	p.Syscalls[0].Names[0] = "close"
	if b, _ := Compile(p); a == b {
		t.Error("another profile got the cached filter")
	}
}

func TestTablesAreSorted(t *testing.T) {
	for name, table := range map[string]table{
		"amd64": tableAMD64, "x32": tableX32, "386": table386, "arm64": tableARM64, "arm": tableARM,
	} {
		if len(table) < 300 {
			t.Errorf("%s has only %d calls", name, len(table))
		}
		for i := 1; i < len(table); i++ {
			if table[i-1].name >= table[i].name {
				t.Errorf("%s: %s is not before %s", name, table[i-1].name, table[i].name)
			}
		}
	}
}

func BenchmarkCompileDocker(b *testing.B) {
	p := dockerProfile(b)
	for b.Loop() {
		if _, err := compile(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileCached(b *testing.B) {
	p := dockerProfile(b)
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}
