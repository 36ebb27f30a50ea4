package convert

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
)

// ports are those that are exposed and those that are published.
func ports(s *types.ServiceConfig) (network.PortSet, network.PortMap, error) {
	exposed, published := network.PortSet{}, network.PortMap{}
	bad := func(text string) error {
		return fmt.Errorf("service %s: %s: %w", s.Name, text, errdefs.ErrInvalidArgument)
	}
	for _, p := range s.Ports {
		port, err := network.ParsePort(fmt.Sprintf("%d/%s", p.Target, p.Protocol))
		if err != nil {
			return nil, nil, bad("port " + err.Error())
		}
		b := network.PortBinding{HostPort: p.Published}
		if p.HostIP != "" {
			if b.HostIP, err = netip.ParseAddr(strings.Trim(p.HostIP, "[]")); err != nil {
				return nil, nil, bad(strconv.Quote(p.HostIP) + " is no address to publish a port on")
			}
		}
		exposed[port] = struct{}{}
		published[port] = append(published[port], b)
	}
	for _, e := range s.Expose {
		r, err := network.ParsePortRange(e)
		if err != nil {
			return nil, nil, bad("expose " + err.Error())
		}
		for p := range r.All() {
			exposed[p] = struct{}{}
		}
	}
	return exposed, published, nil
}

// Ports are the ports that a service publishes.
func Ports(s *types.ServiceConfig) (network.PortMap, error) {
	_, published, err := ports(s)
	return published, err
}

// Fixed divides bindings into those whose port the host chooses, from all or from a range, and those on a port of their own: only
// one container can have these at a time.
func Fixed(all network.PortMap) (free, fixed network.PortMap) {
	free, fixed = network.PortMap{}, network.PortMap{}
	for port, list := range all {
		for _, b := range list {
			if b.HostPort == "" || b.HostPort == "0" || strings.Contains(b.HostPort, "-") {
				free[port] = append(free[port], b)
			} else {
				fixed[port] = append(fixed[port], b)
			}
		}
	}
	return free, fixed
}
