package spec

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ExecProcess makes the process of docker exec in the container that s describes and that was made from c. u is the
// request's user, or the container's if it names none, resolved against the container's files.
func ExecProcess(s *specs.Spec, c *container.Config, r container.ExecCreateRequest, u User, h Host) (*specs.Process, error) {
	if len(r.Cmd) == 0 || r.Cmd[0] == "" {
		return nil, invalid("no-command", "No exec command specified")
	}
	own := s.Process
	p := &specs.Process{
		Terminal:        r.Tty,
		User:            u.oci(own.User.Umask),
		Args:            slices.Clone(r.Cmd),
		Env:             execEnv(own.Env, c, r, u),
		Cwd:             own.Cwd,
		Rlimits:         slices.Clone(own.Rlimits),
		NoNewPrivileges: own.NoNewPrivileges,
		ApparmorProfile: own.ApparmorProfile,
		SelinuxLabel:    own.SelinuxLabel,
		OOMScoreAdj:     clonePointer(own.OOMScoreAdj),
		Scheduler:       clonePointer(own.Scheduler),
		IOPriority:      clonePointer(own.IOPriority),
		ExecCPUAffinity: clonePointer(own.ExecCPUAffinity),
	}
	if r.WorkingDir != "" {
		if !path.IsAbs(r.WorkingDir) {
			return nil, invalid("workdir", "the working directory '%s' is invalid, it needs to be an absolute path", r.WorkingDir)
		}
		p.Cwd = path.Clean(r.WorkingDir)
	}
	if r.Tty && r.ConsoleSize != nil {
		p.ConsoleSize = &specs.Box{Height: r.ConsoleSize[0], Width: r.ConsoleSize[1]}
	}
	p.Capabilities = execCapabilities(own.Capabilities, r.Privileged, h)
	if r.Privileged && p.ApparmorProfile != "" {
		p.ApparmorProfile = unconfined
	}
	return p, nil
}

// execEnv: the container's variables, TERM for a terminal, the request's, and HOME. Unless the container's configuration
// sets it, HOME in env is that of the container's user, and this one's may be another.
func execEnv(env []string, c *container.Config, r container.ExecCreateRequest, u User) []string {
	env = slices.Clone(env)
	if c == nil || !sets(c.Env, "HOME=") {
		env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") })
	}
	if r.Tty && !sets(env, "TERM=") {
		env = append(env, "TERM=xterm")
	}
	return withHome(mergeEnv(env, r.Env), u.Home)
}

func sets(env []string, prefix string) bool {
	return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, prefix) })
}

func execCapabilities(own *specs.LinuxCapabilities, privileged bool, h Host) *specs.LinuxCapabilities {
	if privileged {
		b := builder{in: Input{Host: h}}
		return newCapabilities(b.available())
	}
	if own == nil {
		return nil
	}
	return &specs.LinuxCapabilities{
		Bounding:    slices.Clone(own.Bounding),
		Effective:   slices.Clone(own.Effective),
		Permitted:   slices.Clone(own.Permitted),
		Inheritable: slices.Clone(own.Inheritable),
		Ambient:     slices.Clone(own.Ambient),
	}
}
