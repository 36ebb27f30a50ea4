package runtime

import (
	"fmt"
	"io"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/seccomp"
)

// Plan writes the program that Create would run for a bundle, and does nothing of it. The control group's files, which
// exist only when the group does, are left out.
func (r *Runtime) Plan(w io.Writer, b Bundle) error {
	if b.Spec == nil || b.Spec.Process == nil {
		return fmt.Errorf("specification without a process: %w", errdefs.ErrInvalidArgument)
	}
	in := &input{id: b.ID, spec: b.Spec, rootfs: b.Rootfs, netNS: b.NetNS != nil, facts: r.facts}
	if err := in.look(Stdio{}); err != nil {
		return err
	}
	var err error
	if in.filter, err = compileFilter(b.Spec); err != nil {
		return err
	}
	c, err := compile(in)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, c.String())
	return err
}

// compileFilter compiles a specification's seccomp profile, if it has one.
func compileFilter(s *specs.Spec) (*seccomp.Filter, error) {
	if s.Linux == nil || s.Linux.Seccomp == nil {
		return nil, nil
	}
	f, err := seccomp.Compile(s.Linux.Seccomp)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	return f, nil
}
