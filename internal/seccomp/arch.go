package seccomp

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// table holds an architecture's system calls, sorted by name.
type table []struct {
	name string
	nr   uint32
}

func (t table) lookup(name string) (nr uint32, ok bool) {
	i, ok := slices.BinarySearchFunc(t, name, func(e struct {
		name string
		nr   uint32
	}, name string,
	) int {
		return strings.Compare(e.name, name)
	})
	if !ok {
		return 0, false
	}
	return t[i].nr, true
}

// architecture is one way of calling the kernel.
type architecture struct {
	oci   specs.Arch
	audit uint32
	calls table
	wide  bool // arguments have 64 bits
	// ordinary is the number above which calls are outside of the common sequence, and say nothing of a profile's age.
	ordinary uint32
	// multiplexed are calls that can also be made through another one, which has the number of the call as its first argument.
	multiplexed map[string]multiplexer
}

type multiplexer struct {
	call string
	nr   uint64
}

const x32Bit = 0x40000000

var (
	archX8664 = &architecture{oci: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, calls: tableAMD64, wide: true, ordinary: 511}
	archX32   = &architecture{
		oci: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, calls: tableX32, wide: true, ordinary: x32Bit | 511,
	}
	archX86 = &architecture{
		oci: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, calls: table386, ordinary: 0xffff, multiplexed: multiplexedX86,
	}
	archAArch64 = &architecture{
		oci: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64, calls: tableARM64, wide: true, ordinary: 0xffff,
	}
	archARM = &architecture{oci: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, calls: tableARM, ordinary: 0xeffff}
)

// multiplexedX86: the 32-bit kernel has sockets and System V IPC behind one call each.
var multiplexedX86 = map[string]multiplexer{
	"socket": {"socketcall", 1}, "bind": {"socketcall", 2}, "connect": {"socketcall", 3}, "listen": {"socketcall", 4},
	"accept": {"socketcall", 5}, "getsockname": {"socketcall", 6}, "getpeername": {"socketcall", 7},
	"socketpair": {"socketcall", 8}, "send": {"socketcall", 9}, "recv": {"socketcall", 10}, "sendto": {"socketcall", 11},
	"recvfrom": {"socketcall", 12}, "shutdown": {"socketcall", 13}, "setsockopt": {"socketcall", 14},
	"getsockopt": {"socketcall", 15}, "sendmsg": {"socketcall", 16}, "recvmsg": {"socketcall", 17},
	"accept4": {"socketcall", 18}, "recvmmsg": {"socketcall", 19}, "sendmmsg": {"socketcall", 20},
	"semop": {"ipc", 1}, "semget": {"ipc", 2}, "semctl": {"ipc", 3}, "semtimedop": {"ipc", 4},
	"msgsnd": {"ipc", 11}, "msgrcv": {"ipc", 12}, "msgget": {"ipc", 13}, "msgctl": {"ipc", 14},
	"shmat": {"ipc", 21}, "shmdt": {"ipc", 22}, "shmget": {"ipc", 23}, "shmctl": {"ipc", 24},
}

// native is the architecture that this program runs on.
func native() *architecture {
	if runtime.GOARCH == "arm64" {
		return archAArch64
	}
	return archX8664
}

// architectures are those that a profile names and that this machine has; without any, the native one. Calls of all
// others end the process, since no rule is about them.
func architectures(names []specs.Arch) ([]*architecture, error) {
	if len(names) == 0 {
		return []*architecture{native()}, nil
	}
	var out []*architecture
	for _, n := range names {
		if !strings.HasPrefix(string(n), "SCMP_ARCH_") {
			return nil, fmt.Errorf("unknown architecture %q: %w", n, errdefs.ErrInvalidArgument)
		}
		for _, a := range family(n) {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	// The native one first: it is asked for most.
	slices.SortStableFunc(out, func(x, y *architecture) int {
		switch {
		case x == native() && y != native():
			return -1
		case y == native() && x != native():
			return 1
		}
		return 0
	})
	return out, nil
}

// family is the architecture of that name, if it belongs to this machine.
func family(n specs.Arch) []*architecture {
	if n == "SCMP_ARCH_NATIVE" {
		return []*architecture{native()}
	}
	all := []*architecture{archX8664, archX86, archX32}
	if native() == archAArch64 {
		all = []*architecture{archAArch64, archARM}
	}
	for _, a := range all {
		if a.oci == n {
			return []*architecture{a}
		}
	}
	return nil
}
