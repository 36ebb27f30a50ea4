package spec

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultPath is the search path of containers whose image sets none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// initDestination is where the init program is bound in the container.
const initDestination = "/sbin/docker-init"

func (b *builder) process() error {
	args := slices.Concat(b.config.Entrypoint, b.config.Cmd)
	if len(args) == 0 {
		return invalid("no-command", "no command specified")
	}
	if b.wantsInit() {
		if b.in.InitPath == "" {
			return invalid("no-init", "cannot run an init process: this engine has no init program")
		}
		args = slices.Concat([]string{initDestination, "--"}, args)
	}
	p := &specs.Process{
		Terminal:        b.config.Tty,
		User:            b.in.User.oci(b.host.Umask),
		Args:            args,
		Env:             b.env(),
		Cwd:             cwd(b.config.WorkingDir),
		Rlimits:         b.rlimits(),
		NoNewPrivileges: b.security.noNewPrivileges,
	}
	// Lowering a positive score to 0 would need CAP_SYS_RESOURCE; raising a negative one needs nothing.
	if b.host.OomScoreAdj != 0 || b.in.Host.OOMScoreAdj < 0 {
		score := b.host.OomScoreAdj
		p.OOMScoreAdj = &score
	}
	if b.config.Tty && b.host.ConsoleSize != [2]uint{} {
		p.ConsoleSize = &specs.Box{Height: b.host.ConsoleSize[0], Width: b.host.ConsoleSize[1]}
	}
	b.spec.Process = p
	return nil
}

// wantsInit: an init makes sense only as the first process of the container's own pid namespace.
func (b *builder) wantsInit() bool {
	return b.host.Init != nil && *b.host.Init && b.host.PidMode.IsPrivate()
}

func cwd(dir string) string {
	if dir == "" {
		return "/"
	}
	return path.Clean(dir)
}

func (b *builder) hostname() string {
	switch {
	case b.config.Hostname != "":
		return b.config.Hostname
	case b.host.NetworkMode.IsHost() || b.host.UTSMode.IsHost():
		return b.in.Host.Hostname
	case len(b.in.ID) > 12:
		return b.in.ID[:12]
	}
	return b.in.ID
}

// env is the environment in docker's order: PATH, HOSTNAME, TERM, the container's own, HOME.
func (b *builder) env() []string {
	env := make([]string, 0, len(b.config.Env)+4)
	env = append(env, "PATH="+DefaultPath, "HOSTNAME="+b.hostname())
	if b.config.Tty {
		env = append(env, "TERM=xterm")
	}
	return withHome(mergeEnv(env, b.config.Env), b.in.User.Home)
}

// mergeEnv lets over replace variables of env in place, appends new ones and removes those that have no "=".
func mergeEnv(env, over []string) []string {
	for _, kv := range over {
		key, _, set := strings.Cut(kv, "=")
		at := slices.IndexFunc(env, func(e string) bool {
			return len(e) >= len(key) && e[:len(key)] == key && (len(e) == len(key) || e[len(key)] == '=')
		})
		switch {
		case set && at >= 0:
			env[at] = kv
		case set:
			env = append(env, kv)
		case at >= 0:
			env = slices.Delete(env, at, at+1)
		}
	}
	return env
}

// withHome sets HOME where it is missing or empty.
func withHome(env []string, home string) []string {
	if home == "" {
		home = "/"
	}
	for i, e := range env {
		if v, ok := strings.CutPrefix(e, "HOME="); ok {
			if v == "" {
				env[i] = "HOME=" + home
			}
			return env
		}
	}
	return append(env, "HOME="+home)
}

func (b *builder) rlimits() []specs.POSIXRlimit {
	if len(b.resources.Ulimits) == 0 {
		return nil
	}
	out := make([]specs.POSIXRlimit, 0, len(b.resources.Ulimits))
	for _, u := range b.resources.Ulimits {
		out = append(out, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name),
			// -1 is docker's "unlimited" and RLIM_INFINITY alike.
			Soft: uint64(u.Soft),
			Hard: uint64(u.Hard),
		})
	}
	return out
}
