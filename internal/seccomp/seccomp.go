// Package seccomp compiles an OCI seccomp profile to a classic BPF filter whose system calls are found by a search tree
// instead of a chain of comparisons.
package seccomp

import (
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run gen.go

// Filter is a compiled profile, ready for seccomp(SECCOMP_SET_MODE_FILTER). It is shared between all who compiled an equal
// profile, and must not be changed.
type Filter struct {
	Program []unix.SockFilter
	Flags   uint // SECCOMP_FILTER_FLAG_*
}

// maxProgram is the kernel's limit (BPF_MAXINSNS).
const maxProgram = 4096

// Compile compiles a profile. System calls newer than the profile knows get ENOSYS rather than the default action's EPERM,
// as docker's do. Names that this architecture does not have are skipped. Results for equal profiles are cached.
//
// Of several rules for one system call, one without conditions goes before those with conditions, and otherwise the first
// one that matches decides.
func Compile(p *specs.LinuxSeccomp) (*Filter, error) {
	key := fingerprint(p)
	if f, ok := filters.Get(key); ok {
		return f, nil
	}
	f, err := compile(p)
	if err != nil {
		return nil, fmt.Errorf("compiling the seccomp profile: %w", err)
	}
	filters.Put(key, f)
	return f, nil
}

func compile(p *specs.LinuxSeccomp) (*Filter, error) {
	if p.ListenerPath != "" || p.ListenerMetadata != "" {
		return nil, fmt.Errorf("listenerPath: kist has no seccomp notification: %w", errdefs.ErrNotImplemented)
	}
	flags, err := flagBits(p.Flags)
	if err != nil {
		return nil, err
	}
	def, err := toAction(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("default action: %w", err)
	}
	arches, err := architectures(p.Architectures)
	if err != nil {
		return nil, err
	}
	trees := make(map[*architecture][]segment, len(arches))
	for _, a := range arches {
		if trees[a], err = a.compile(p, def); err != nil {
			return nil, err
		}
	}
	program := dispatch(arches, trees)
	if len(program) > maxProgram {
		return nil, fmt.Errorf("it needs %d instructions, and the kernel takes no more than %d: %w", len(program), maxProgram,
			errdefs.ErrInvalidArgument)
	}
	return &Filter{Program: program, Flags: flags}, nil
}

// flagBits: without any flags, speculation is left alone, as runc does; TSYNC has no meaning for a process of one thread.
func flagBits(flags []specs.LinuxSeccompFlag) (uint, error) {
	if flags == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var bits uint
	for _, f := range flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			bits |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			bits |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
		case specs.LinuxSeccompFlagWaitKillableRecv:
			return 0, fmt.Errorf("flag %s: kist has no seccomp notification: %w", f, errdefs.ErrNotImplemented)
		default:
			return 0, fmt.Errorf("unknown flag %q: %w", f, errdefs.ErrInvalidArgument)
		}
	}
	return bits, nil
}

// action is what a filter returns.
type action uint32

// maxErrno is the largest error number that the kernel returns.
const maxErrno = 4095

func toAction(a specs.LinuxSeccompAction, errno *uint) (action, error) {
	data := action(unix.EPERM)
	if errno != nil {
		if *errno > maxErrno {
			return 0, fmt.Errorf("errnoRet %d is above %d: %w", *errno, maxErrno, errdefs.ErrInvalidArgument)
		}
		data = action(*errno)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActNotify:
		return 0, fmt.Errorf("%s: kist has no seccomp notification: %w", a, errdefs.ErrNotImplemented)
	}
	return 0, fmt.Errorf("unknown action %q: %w", a, errdefs.ErrInvalidArgument)
}
