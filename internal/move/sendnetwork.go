package move

import (
	"context"
	"maps"
	"slices"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/engine"
)

// networksOf is what the container wants of its networks, and those of them that a person has made.
func (s *sending) networksOf(ctx context.Context, c *engine.Inspection) (*network.NetworkingConfig, []network.CreateRequest, error) {
	conf := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
	var made []network.CreateRequest
	mode := c.HostConfig.NetworkMode
	if mode.IsHost() || mode.IsNone() || mode.IsContainer() || c.NetworkSettings == nil {
		return nil, nil, nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
		have := c.NetworkSettings.Networks[name]
		e := &network.EndpointSettings{
			IPAMConfig: have.IPAMConfig, Links: have.Links, DriverOpts: have.DriverOpts, GwPriority: have.GwPriority,
			Aliases: slices.DeleteFunc(slices.Clone(have.Aliases), func(a string) bool { return a == c.ID[:min(12, len(c.ID))] }),
		}
		conf.EndpointsConfig[name] = e
		if docker.NetworkMode(name).IsUserDefined() {
			n, err := s.Networks.Inspect(ctx, name)
			if err != nil {
				return nil, nil, err
			}
			made = append(made, asMade(n, fixed(e)))
		}
	}
	return conf, made, nil
}

// fixed says whether the container wants certain addresses.
func fixed(e *network.EndpointSettings) bool {
	return e.IPAMConfig != nil && (e.IPAMConfig.IPv4Address.IsValid() || e.IPAMConfig.IPv6Address.IsValid())
}

// asMade is how the network could be made again. Its subnet is of consequence only if somebody wants a certain address in it.
func asMade(n *network.Inspect, subnet bool) network.CreateRequest {
	v4, v6 := n.EnableIPv4, n.EnableIPv6
	r := network.CreateRequest{
		Name: n.Name, Driver: n.Driver, Internal: n.Internal, Attachable: n.Attachable, EnableIPv4: &v4, EnableIPv6: &v6,
		Options: n.Options, Labels: n.Labels,
	}
	if subnet {
		ipam := n.IPAM
		r.IPAM = &ipam
	}
	return r
}
