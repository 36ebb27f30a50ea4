package cgroup

import (
	"math/rand/v2"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// access is what a process asks of the device program.
type access struct {
	kind, bits   int32
	major, minor int64
}

// interpret runs a device program.
func interpret(t *testing.T, p []instruction, a access) bool {
	t.Helper()
	var r [16]int64
	for pc := 0; pc < len(p); pc++ {
		in := p[pc]
		dst, src := in.regs&15, in.regs>>4
		switch in.code {
		case opLoadWord:
			r[dst] = map[int16]int64{0: int64(a.bits)<<16 | int64(a.kind), 4: a.major, 8: a.minor}[in.off]
		case opMoveReg:
			r[dst] = r[src]
		case opMove:
			r[dst] = int64(in.imm)
		case opAnd:
			r[dst] &= int64(in.imm)
		case opShift:
			r[dst] = int64(uint64(r[dst]) >> in.imm)
		case opJumpEqual:
			if r[dst] == int64(in.imm) {
				pc += int(in.off)
			}
		case opJumpOther:
			if r[dst] != int64(in.imm) {
				pc += int(in.off)
			}
		case opExit:
			return r[regResult] != 0
		default:
			t.Fatalf("instruction %d has code %#x", pc, in.code)
		}
	}
	t.Fatal("the program does not end")
	return false
}

// permitted says what rules mean: for each bit of access the last rule that covers it decides.
func permitted(rules []specs.LinuxDeviceCgroup, a access) bool {
	all := append(append([]specs.LinuxDeviceCgroup{}, rules...), essential...)
	for bit, letter := range map[int32]string{accMknod: "m", accRead: "r", accWrite: "w"} {
		if a.bits&bit == 0 {
			continue
		}
		allowed := false
		for _, r := range all {
			kind := map[string]int32{"b": devBlock, "c": devChar}[r.Type]
			switch {
			case kind != 0 && kind != a.kind, !wildcard(r.Major) && *r.Major != a.major, !wildcard(r.Minor) && *r.Minor != a.minor:
			case r.Access == "" || strings.Contains(r.Access, letter):
				allowed = r.Allow
			}
		}
		if !allowed {
			return false
		}
	}
	return true
}

func TestDeviceProgramMeansTheRules(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	numbers := []*int64{nil, ptr(int64(-1)), ptr(int64(1)), ptr(int64(7)), ptr(int64(10))}
	for range 300 {
		var rules []specs.LinuxDeviceCgroup
		for range r.IntN(8) {
			rules = append(rules, specs.LinuxDeviceCgroup{
				Allow: r.IntN(2) == 0, Type: []string{"", "a", "b", "c"}[r.IntN(4)], Major: numbers[r.IntN(5)], Minor: numbers[r.IntN(5)],
				Access: []string{"", "r", "w", "m", "rw", "rwm", "wm"}[r.IntN(7)],
			})
		}
		p, err := deviceProgram(rules)
		if err != nil {
			t.Fatal(err)
		}
		for kind := int32(devBlock); kind <= devChar; kind++ {
			for bits := int32(1); bits < 8; bits++ {
				for _, major := range []int64{1, 7, 10, 136} {
					for _, minor := range []int64{1, 3, 7, 10} {
						a := access{kind, bits, major, minor}
						if got, want := interpret(t, p, a), permitted(rules, a); got != want {
							t.Fatalf("%+v: %v, want %v\nrules %+v", a, got, want, rules)
						}
					}
				}
			}
		}
	}
}

func TestRestrictsDevices(t *testing.T) {
	all := func(allow bool) specs.LinuxDeviceCgroup { return specs.LinuxDeviceCgroup{Allow: allow, Access: "rwm"} }
	one := func(allow bool) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: ptr(int64(1)), Access: "r"}
	}
	for _, c := range []struct {
		rules []specs.LinuxDeviceCgroup
		want  bool
	}{
		{nil, true},
		{[]specs.LinuxDeviceCgroup{all(true)}, false},
		{[]specs.LinuxDeviceCgroup{all(false)}, true},
		{[]specs.LinuxDeviceCgroup{all(true), one(false)}, true},
		{[]specs.LinuxDeviceCgroup{one(false), all(true), one(true)}, false},
		{[]specs.LinuxDeviceCgroup{one(true)}, true},
	} {
		if got := restrictsDevices(c.rules); got != c.want {
			t.Errorf("%+v: %v", c.rules, got)
		}
	}
}

func TestBadDeviceRules(t *testing.T) {
	for _, r := range []specs.LinuxDeviceCgroup{{Type: "x"}, {Type: "c", Access: "q"}} {
		if _, err := deviceProgram([]specs.LinuxDeviceCgroup{r}); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

// TestPrograms loads into the kernel more programs than are kept.
func TestPrograms(t *testing.T) {
	if inUserNamespace() {
		t.Skip("devices cannot be restricted in a user namespace")
	}
	g := createV2(t, &specs.LinuxResources{Devices: allowAll})
	var c programCache
	dir, err := unix.Open(g.Dir(""), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	for n := range int64(programLimit + 3) {
		rules := []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: ptr(n), Access: "r"}}
		for range 2 {
			if err := c.attach(dir, rules); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(c.loaded) > programLimit {
		t.Errorf("%d programs are kept", len(c.loaded))
	}
	for _, fd := range c.loaded {
		unix.Close(fd)
	}
}
