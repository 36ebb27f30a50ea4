package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/containerd/errdefs"
	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/fault"
)

// builtin is docker's name for its default profile.
const builtin = "builtin"

func (b *builder) seccomp() error {
	wish := b.security.seccomp
	if wish == unconfined || b.host.Privileged && wish == "" {
		return nil
	}
	if !b.in.Host.Seccomp {
		if wish != "" && wish != builtin {
			return invalid("seccomp-missing", "seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
		}
		b.warn("seccomp is not enabled in your kernel, running container without default profile")
		return nil
	}
	t := target{caps: b.spec.Process.Capabilities.Bounding, kernel: b.in.Host.KernelRelease, arch: runtime.GOARCH}
	if wish == "" || wish == builtin {
		b.spec.Linux.Seccomp = defaultProfiles.get(t)
		return nil
	}
	var p profile.Seccomp
	if err := json.Unmarshal([]byte(wish), &p); err != nil {
		return &fault.Error{
			Code: "seccomp-profile", What: "Decoding seccomp profile failed", Cause: err.Error(),
			Try:   "pass the profile's content, as docker run does with a file",
			Class: errdefs.ErrInvalidArgument, Err: err,
		}
	}
	s, err := t.choose(&p)
	if err != nil {
		return invalid("seccomp-profile", "%v", err)
	}
	b.spec.Linux.Seccomp = s
	return nil
}

// target is what the conditions of a profile's rules are about.
type target struct {
	caps   []string
	kernel string
	arch   string // as Go names it, which is as profiles do for all that kist runs on
}

// choose makes an OCI profile of docker's: the rules whose conditions hold. It may change p.
func (t target) choose(p *profile.Seccomp) (*specs.LinuxSeccomp, error) {
	if p.DefaultAction == "" && len(p.Syscalls) == 0 {
		return nil, nil
	}
	if len(p.Architectures) != 0 && len(p.ArchMap) != 0 {
		return nil, errors.New("both 'architectures' and 'archMap' are specified in the seccomp profile, " +
			"use either 'architectures' or 'archMap'")
	}
	out := p.LinuxSeccomp
	for _, m := range p.ArchMap {
		if m.Arch == t.ociArch() {
			out.Architectures = append([]specs.Arch{m.Arch}, m.SubArches...)
			break
		}
	}
	out.Syscalls = make([]specs.LinuxSyscall, 0, len(p.Syscalls))
	for _, call := range p.Syscalls {
		if call == nil {
			continue
		}
		if call.Name != "" { //nolint:staticcheck // deprecated, and still in people's profiles
			if len(call.Names) != 0 {
				return nil, errors.New("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
			}
			call.Names = []string{call.Name} //nolint:staticcheck // as above
		}
		included, err := t.includes(call)
		if err != nil {
			return nil, err
		}
		if included {
			out.Syscalls = append(out.Syscalls, call.LinuxSyscall)
		}
	}
	return &out, nil
}

func (t target) ociArch() specs.Arch {
	if t.arch == "arm64" {
		return specs.ArchAARCH64
	}
	return specs.ArchX86_64
}

// includes: every include must hold, and none of the excludes.
func (t target) includes(call *profile.Syscall) (bool, error) {
	if x := call.Excludes; x != nil {
		newer, err := t.atLeast(x.MinKernel)
		if err != nil {
			return false, err
		}
		if slices.Contains(x.Arches, t.arch) || x.MinKernel != nil && newer || slices.ContainsFunc(x.Caps, t.has) {
			return false, nil
		}
	}
	if i := call.Includes; i != nil {
		newer, err := t.atLeast(i.MinKernel)
		if err != nil {
			return false, err
		}
		lacks := func(c string) bool { return !t.has(c) }
		if len(i.Arches) > 0 && !slices.Contains(i.Arches, t.arch) || !newer || slices.ContainsFunc(i.Caps, lacks) {
			return false, nil
		}
	}
	return true, nil
}

func (t target) has(c string) bool { return slices.Contains(t.caps, c) }

// atLeast tells whether the kernel is as new as v; nil is older than all.
func (t target) atLeast(v *profile.KernelVersion) (bool, error) {
	if v == nil {
		return true, nil
	}
	var major, minor uint64
	if _, err := fmt.Sscanf(t.kernel, "%d.%d", &major, &minor); err != nil {
		return false, fmt.Errorf("reading the kernel's version %q: %w", t.kernel, err)
	}
	return major > v.Kernel || major == v.Kernel && minor >= v.Major, nil
}
