package runstep

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/spec"
)

// spec makes the OCI specification of the step's process.
func (s *step) spec() (*specs.Spec, error) {
	meta := s.Op.Meta
	user, err := s.user(meta.User)
	if err != nil {
		return nil, err
	}
	names, err := s.nameMounts()
	if err != nil {
		return nil, err
	}
	config := &container.Config{
		Hostname: s.hostname(), Cmd: meta.Args, Env: s.environment(), WorkingDir: meta.Cwd, User: meta.User,
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(s.networkName()), ReadonlyRootfs: s.root.Readonly,
		Privileged: s.Op.Security == pb.SecurityMode_INSECURE,
		Resources:  container.Resources{CgroupParent: meta.CgroupParent, Ulimits: ulimits(meta.Ulimit)},
	}
	if host.Privileged {
		host.SecurityOpt = []string{"label=disable"}
	}
	spec.Defaults(host, s.r.cfg.Host)
	built, _, err := spec.Build(spec.Input{
		ID: s.id, Config: config, HostConfig: host, User: user, Mounts: append(names, s.mounts...),
		CgroupParent: s.r.cfg.CgroupParent, Host: s.r.cfg.Host,
	})
	if err != nil {
		return nil, fmt.Errorf("build step: %w", err)
	}
	// The variables are the step's own, and not those that a container gets beside them: what is built must not depend on
	// them.
	built.Process.Env = withHome(append(slices.Clip(config.Env), s.env...), user.Home)
	return built, s.devices(built)
}

// environment is what the frontend has set, with the proxies of the client.
func (s *step) environment() []string {
	env := slices.Clone(s.Op.Meta.Env)
	add := func(key, value string) {
		if value != "" && !hasVariable(env, key) {
			env = append(env, key+"="+value)
		}
	}
	if p := s.Op.Meta.ProxyEnv; p != nil {
		for _, v := range [][2]string{
			{"HTTP_PROXY", p.HttpProxy},
			{"HTTPS_PROXY", p.HttpsProxy},
			{"FTP_PROXY", p.FtpProxy},
			{"NO_PROXY", p.NoProxy},
			{"ALL_PROXY", p.AllProxy},
		} {
			add(v[0], v[1])
			add(strings.ToLower(v[0]), v[1])
		}
	}
	add("PATH", spec.DefaultPath)
	return env
}

func hasVariable(env []string, key string) bool {
	return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, key+"=") })
}

func withHome(env []string, home string) []string {
	if hasVariable(env, "HOME") {
		return env
	}
	if home == "" {
		home = "/"
	}
	return append(env, "HOME="+home)
}

// accounts are larger than this only in images that mean harm.
const maxAccounts = 4 << 20

// user resolves a user by the stage's own accounts.
func (s *step) user(name string) (spec.User, error) {
	passwd, err := s.account("/etc/passwd")
	if err != nil {
		return spec.User{}, err
	}
	group, err := s.account("/etc/group")
	if err != nil {
		return spec.User{}, err
	}
	return spec.ResolveUser(name, nil, passwd, group)
}

func (s *step) account(file string) ([]byte, error) {
	raw, err := s.r.cfg.Layers.ReadFile(s.rootID(), file, maxAccounts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of the stage: %w", file, err)
	}
	return raw, nil
}

// nameMounts are the mounts of /etc/hosts and /etc/resolv.conf, where the step does not mount its own.
func (s *step) nameMounts() ([]specs.Mount, error) {
	hosts, resolv, err := s.nameFiles()
	if err != nil {
		return nil, err
	}
	var list []specs.Mount
	for _, f := range [][2]string{{"/etc/hosts", hosts}, {"/etc/resolv.conf", resolv}} {
		if slices.ContainsFunc(s.mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == f[0] }) {
			continue
		}
		list = append(list, specs.Mount{
			Type: "bind", Source: f[1], Destination: f[0], Options: []string{"rbind", "rprivate", "nosuid", "nodev", "noexec", "ro"},
		})
	}
	return list, nil
}

func ulimits(list []*pb.Ulimit) []*container.Ulimit {
	var out []*container.Ulimit
	for _, u := range list {
		out = append(out, &units.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out
}
