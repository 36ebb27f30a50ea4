package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"

	dockernet "github.com/moby/moby/api/types/network"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/undo"
)

// launchPlan is what the keeper is asked for, and what the state will say about it.
type launchPlan struct {
	task     task.CreateRequest
	warnings []string
	networks map[string]*dockernet.EndpointSettings
	ports    dockernet.PortMap
	open     held
	sandbox  *network.Sandbox // nil if the network is the host's or another container's
}

// close gives the descriptors back once the process has them.
func (p *launchPlan) close() {
	p.open.close()
	if p.sandbox != nil {
		_ = p.sandbox.Close()
	}
}

// plan puts up the network, writes the files, and has the specification made. The network takes the longest, so the rest
// is done beside it.
func (e *Engine) plan(ctx context.Context, d *definition, u *undo.Stack) (_ *launchPlan, err error) {
	p := &launchPlan{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	type wired struct {
		sandbox *network.Sandbox
		err     error
	}
	joined := make(chan wired, 1)
	go func() {
		s, err := e.wire(ctx, d)
		joined <- wired{s, err}
	}()
	in, root, inErr := e.input(ctx, d, p, u)
	w := <-joined
	if w.err == nil && w.sandbox != nil {
		p.sandbox = w.sandbox
		p.networks, p.ports = w.sandbox.Networks, w.sandbox.Ports
		u.Push("leave network", func(ctx context.Context) error { return e.networks.Leave(ctx, d.ID) })
	}
	if err := errors.Join(w.err, inErr); err != nil {
		return nil, err
	}
	if err := e.share(d, &in, w.sandbox, u); err != nil {
		return nil, err
	}
	in.Wired = w.sandbox != nil
	s, warnings, err := spec.Build(in)
	if err != nil {
		return nil, err
	}
	if err := e.inject(d.HostConfig.DeviceRequests, s); err != nil {
		return nil, err
	}
	log, err := e.logConfig(d)
	if err != nil {
		return nil, err
	}
	p.warnings = warnings
	p.task = task.CreateRequest{
		ID: d.ID, Spec: s, Rootfs: root, Stdin: d.Config.OpenStdin, StdinOnce: d.Config.StdinOnce, Log: log,
	}
	if w.sandbox != nil {
		p.task.NetNS, p.task.Sockets = w.sandbox.NS, w.sandbox.Sockets
	}
	return p, nil
}

// wire makes the container's network namespace; nil for one that uses the host's or another container's.
func (e *Engine) wire(ctx context.Context, d *definition) (*network.Sandbox, error) {
	mode := d.HostConfig.NetworkMode
	if mode.IsHost() || mode.IsContainer() {
		return nil, nil
	}
	r := network.JoinRequest{
		ContainerID: d.ID, Name: d.Name, Hostname: d.Config.Hostname, Network: e.primary(d), Ports: d.HostConfig.PortBindings,
		Exposed: d.Config.ExposedPorts, PublishAll: d.HostConfig.PublishAllPorts,
		Servers: d.HostConfig.DNS, Restarts: !d.HostConfig.RestartPolicy.IsNone(),
	}
	if d.Config.NetworkDisabled {
		r.Network = dockernet.NetworkNone
	}
	r.Endpoint = d.Endpoints[r.Network]
	if len(d.Endpoints) > 1 && !d.Config.NetworkDisabled {
		r.More = maps.Clone(d.Endpoints)
		delete(r.More, r.Network)
	}
	for key, value := range d.HostConfig.Sysctls {
		if strings.HasPrefix(key, "net.") {
			if r.Sysctls == nil {
				r.Sysctls = map[string]string{}
			}
			r.Sysctls[key] = value
		}
	}
	return e.networks.Join(ctx, r)
}

// accounts are larger than this only in images that mean harm.
const maxAccounts = 4 << 20

// input collects what the specification depends on, but for what the network tells.
func (e *Engine) input(ctx context.Context, d *definition, p *launchPlan, u *undo.Stack) (in spec.Input, root *sys.Overlay, err error) {
	in = spec.Input{
		ID: d.ID, Name: d.Name, Config: d.Config, HostConfig: d.HostConfig,
		CgroupParent: e.cfg.CgroupParent, InitPath: e.cfg.InitPath, Host: e.host,
	}
	overlay, err := e.cfg.Layers.Rootfs(d.ID)
	if err != nil {
		return in, nil, err
	}
	if in.User, err = e.user(d, d.Config.User); err != nil {
		return in, nil, err
	}
	if in.Mounts, p.open, err = e.mountsOf(ctx, d, in.User, u); err != nil {
		return in, nil, err
	}
	return in, &overlay, e.devices(d, &in)
}

// user resolves a user by the image's own accounts.
func (e *Engine) user(d *definition, user string) (spec.User, error) {
	passwd, err := e.account(d.ID, "/etc/passwd")
	if err != nil {
		return spec.User{}, err
	}
	group, err := e.account(d.ID, "/etc/group")
	if err != nil {
		return spec.User{}, err
	}
	return spec.ResolveUser(user, d.HostConfig.GroupAdd, passwd, group)
}

func (e *Engine) account(id, file string) ([]byte, error) {
	raw, err := e.cfg.Layers.ReadFile(id, file, maxAccounts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the image's %s: %w", file, err)
	}
	return raw, nil
}

// share adds the container's own files, and the namespaces and files of containers it shares some with.
func (e *Engine) share(d *definition, in *spec.Input, s *network.Sandbox, u *undo.Stack) error {
	if err := e.joinNamespaces(d, in); err != nil {
		return err
	}
	shm, err := e.shm(d, u)
	if err != nil {
		return err
	}
	in.Mounts = append(in.Mounts, shm...)
	if from := d.HostConfig.NetworkMode; from.IsContainer() {
		other, err := e.index.find(from.ConnectedContainer())
		if err != nil {
			return err
		}
		in.Mounts = append(in.Mounts, masked(e.sharedFiles(other.id, d.HostConfig.ReadonlyRootfs), in.Mounts)...)
		return nil
	}
	who, err := e.identify(d, s)
	if err != nil {
		return err
	}
	if who.links, err = e.linkLines(d); err != nil {
		return err
	}
	files, err := e.writeFiles(d.ID, who)
	if err != nil {
		return err
	}
	in.Mounts = append(in.Mounts, masked(files, in.Mounts)...)
	return nil
}

// masked leaves out the files that the user has mounted something over.
func masked(files, mounts []specs.Mount) []specs.Mount {
	var out []specs.Mount
	for _, f := range files {
		over := false
		for _, m := range mounts {
			over = over || m.Destination == f.Destination
		}
		if !over {
			out = append(out, f)
		}
	}
	return out
}
