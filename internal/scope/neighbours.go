package scope

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// neighbours allows networks and namespaces of the project, and no others.
func (s *Scope) neighbours(r *container.CreateRequest, o Objects) error {
	h := r.HostConfig
	for _, mode := range []string{string(h.NetworkMode), string(h.IpcMode), string(h.PidMode)} {
		if other, ok := strings.CutPrefix(mode, "container:"); ok {
			if err := o.Container(other); err != nil {
				return err
			}
		}
	}
	if m := string(h.IpcMode); !strings.HasPrefix(m, "container:") && !slices.Contains([]string{"", "none", "private", "shareable"}, m) {
		return s.Refuse("the IPC namespace " + m)
	}
	if m := string(h.PidMode); !strings.HasPrefix(m, "container:") && m != "" {
		return s.Refuse("the PID namespace " + m)
	}
	for _, from := range h.VolumesFrom {
		name, _, _ := strings.Cut(from, ":")
		if err := o.Container(name); err != nil {
			return err
		}
	}
	for _, link := range h.Links {
		name, _, _ := strings.Cut(link, ":")
		if err := o.Container(name); err != nil {
			return err
		}
	}
	return s.networks(r, o)
}

func (s *Scope) networks(r *container.CreateRequest, o Objects) error {
	mode := string(r.HostConfig.NetworkMode)
	switch {
	case mode == network.NetworkNone, strings.HasPrefix(mode, "container:"):
	case mode == "", mode == network.NetworkDefault, mode == network.NetworkBridge, mode == network.NetworkHost:
		if mode == "" {
			mode = network.NetworkBridge
		}
		return s.Refuse("the network " + mode + ", which is everybody's (name one of the project's, or none)")
	default:
		if err := o.Network(mode); err != nil {
			return err
		}
	}
	if r.NetworkingConfig == nil {
		return nil
	}
	for name := range r.NetworkingConfig.EndpointsConfig {
		if name == mode && mode == network.NetworkNone {
			continue
		}
		if err := o.Network(name); err != nil {
			return err
		}
	}
	return nil
}

// networkOptions are those that reach nothing outside of a network.
var networkOptions = []string{
	"com.docker.network.driver.mtu", "com.docker.network.bridge.enable_icc", "com.docker.network.bridge.enable_ip_masquerade",
}

// Network holds a request to make a network against the scope, and marks it as the project's.
func (s *Scope) Network(r *network.CreateRequest) error {
	if s.Project == "" {
		return nil
	}
	labels, err := s.Mark(r.Labels)
	if err != nil {
		return err
	}
	r.Labels = labels
	switch {
	case r.Driver != "" && r.Driver != "bridge" && r.Driver != "default":
		return s.Refuse("the network driver " + r.Driver)
	case r.ConfigOnly, r.ConfigFrom != nil && r.ConfigFrom.Network != "":
		return s.Refuse("a network made from another's configuration")
	case r.Ingress:
		return s.Refuse("an ingress network")
	case r.Scope != "" && r.Scope != "local":
		return s.Refuse("the network scope " + r.Scope)
	}
	for key := range r.Options {
		if !slices.Contains(networkOptions, key) {
			return s.Refuse("the network option " + key)
		}
	}
	return s.ipam(r.IPAM)
}

// ipam allows addresses that the daemon chooses, or from the subnets that the socket has.
func (s *Scope) ipam(i *network.IPAM) error {
	if i == nil {
		return nil
	}
	if i.Driver != "" && i.Driver != "default" || len(i.Options) > 0 {
		return s.Refuse("the address management " + i.Driver)
	}
	for _, c := range i.Config {
		if !c.Subnet.IsValid() || !s.mayUse(c.Subnet) {
			return s.Refuse("the subnet " + c.Subnet.String())
		}
	}
	return nil
}

func (s *Scope) mayUse(p netip.Prefix) bool {
	return slices.ContainsFunc(s.Subnets, func(mine netip.Prefix) bool {
		return mine.Bits() <= p.Bits() && mine.Contains(p.Addr())
	})
}
