package spec

import (
	"slices"
	"strings"
	"sync"

	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// defaultProfiles remembers docker's profile as it comes out for a set of capabilities: making it anew for each container
// would cost more than the rest of the specification.
var defaultProfiles profileCache

// profileLimit bounds the memory of one cache. Few capabilities matter to the profile, so few sets occur.
const profileLimit = 64

type profileCache struct {
	mu    sync.Mutex
	found map[string]*specs.LinuxSeccomp // guarded by mu; the values are never changed
}

// get returns a profile that the caller may change.
func (c *profileCache) get(t target) *specs.LinuxSeccomp {
	caps := slices.Sorted(slices.Values(t.caps))
	key := t.kernel + " " + t.arch + " " + strings.Join(caps, " ")
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.found[key]
	if !ok {
		var err error
		if p, err = t.choose(profile.DefaultProfile()); err != nil {
			// A kernel that does not tell its version is taken for the oldest.
			t.kernel = "0.0"
			p, _ = t.choose(profile.DefaultProfile())
		}
		if c.found == nil || len(c.found) >= profileLimit {
			c.found = make(map[string]*specs.LinuxSeccomp)
		}
		c.found[key] = p
	}
	return cloneProfile(p)
}

func cloneProfile(p *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	out := *p
	out.Architectures = slices.Clone(p.Architectures)
	out.Flags = slices.Clone(p.Flags)
	out.DefaultErrnoRet = clonePointer(p.DefaultErrnoRet)
	out.Syscalls = slices.Clone(p.Syscalls)
	for i := range out.Syscalls {
		s := &out.Syscalls[i]
		s.Names = slices.Clone(s.Names)
		s.Args = slices.Clone(s.Args)
		s.ErrnoRet = clonePointer(s.ErrnoRet)
	}
	return &out
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
