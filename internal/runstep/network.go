package runstep

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/network"
)

// entitled refuses what the client has not granted.
func (s *step) entitled() error {
	missing := ""
	switch {
	case s.Op.Network == pb.NetMode_HOST && !s.HostNetwork:
		missing = "network.host"
	case s.Op.Security == pb.SecurityMode_INSECURE && !s.Insecure:
		missing = "security.insecure"
	default:
		return nil
	}
	return &fault.Error{
		Code: "entitlement-missing", What: "the step needs the entitlement " + missing, Cause: "the build was not given it",
		Try: "build with --allow " + missing, Class: errdefs.ErrPermissionDenied,
	}
}

// networkName is the step's network in docker's words.
func (s *step) networkName() string {
	switch s.Op.Network {
	case pb.NetMode_HOST:
		return "host"
	case pb.NetMode_NONE:
		return "none"
	}
	return "bridge"
}

// wire takes a network namespace.
func (s *step) wire(ctx context.Context) error {
	name := s.networkName()
	if name == "host" {
		return nil
	}
	if s.r.networks == nil {
		return fmt.Errorf("network for build step: this daemon has none: %w", errdefs.ErrUnavailable)
	}
	sandbox, err := s.r.networks.Join(ctx, network.JoinRequest{ContainerID: s.id, Network: name})
	if err != nil {
		return fmt.Errorf("network for build step: %w", err)
	}
	s.sandbox = sandbox
	s.push(func(ctx context.Context) error {
		_ = sandbox.Close() // the process has, or had, its own
		err := s.r.networks.Leave(ctx, s.id)
		s.r.networks.Forget(s.id) // It does not come back.
		return err
	})
	return nil
}

// nameFiles writes, or finds, the files that say who the host is and where names are looked up. They do not depend on the
// step's address, so that most steps share them.
func (s *step) nameFiles() (hosts, resolv string, err error) {
	h := network.Hosts{Hostname: s.hostname(), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}}
	for _, e := range s.Op.Meta.ExtraHosts {
		h.Extra = append(h.Extra, e.Host+"="+e.IP)
	}
	var names network.ResolvConf
	if s.r.networks != nil {
		h.Gateway = s.r.networks.Gateway()
	}
	switch {
	case s.sandbox == nil: // the host's network
		h.Gateway = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case len(s.sandbox.Resolv.Servers) > 0:
		names = s.sandbox.Resolv
	}
	if len(names.Servers) == 0 && s.r.networks != nil {
		if names, err = s.r.networks.HostResolv(); err != nil {
			return "", "", fmt.Errorf("name servers for build step: %w", err)
		}
	}
	content, err := network.RenderHosts(h)
	if err != nil {
		return "", "", err
	}
	if hosts, err = s.r.files.path(content); err != nil {
		return "", "", err
	}
	resolv, err = s.r.files.path(network.RenderResolv(names))
	return hosts, resolv, err
}

// defaultHostname is what BuildKit calls the machine in a build, so that nothing that is built depends on a name made up.
const defaultHostname = "buildkitsandbox"

func (s *step) hostname() string {
	if h := s.Op.Meta.Hostname; h != "" {
		return h
	}
	return defaultHostname
}
