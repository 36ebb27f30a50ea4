package convert

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/compose/model"
)

// interfaceName is the driver's option for an interface's name.
const interfaceName = "com.docker.network.endpoint.ifname"

// networking is the network mode and the endpoints, all in one request.
func networking(in *Input) (container.NetworkMode, *network.NetworkingConfig, error) {
	s := &in.Service
	if s.NetworkMode != "" {
		return container.NetworkMode(s.NetworkMode), nil, nil
	}
	names := s.NetworksByPriority()
	if len(names) == 0 {
		return "none", nil, nil
	}
	ends := map[string]*network.EndpointSettings{}
	for i, key := range names {
		e, err := endpoint(in, key, i == 0)
		if err != nil {
			return "", nil, fmt.Errorf("service %s, network %s: %w", s.Name, key, err)
		}
		ends[in.Project.Networks[key].Name] = e
	}
	return container.NetworkMode(in.Project.Networks[names[0]].Name), &network.NetworkingConfig{EndpointsConfig: ends}, nil
}

// endpoint is a container's place in a network; the main one takes the service's own MAC address.
func endpoint(in *Input, key string, main bool) (*network.EndpointSettings, error) {
	s := &in.Service
	c := s.Networks[key]
	e := &network.EndpointSettings{Links: in.Links, Aliases: aliases(in, c)}
	if in.Beside {
		e.Aliases = nil
	}
	mac := ""
	if main {
		mac = s.MacAddress
	}
	if c != nil {
		ipam, err := addresses(c)
		if err != nil {
			return nil, err
		}
		e.IPAMConfig, e.GwPriority = ipam, c.GatewayPriority
		e.DriverOpts = maps.Clone(map[string]string(c.DriverOpts))
		if c.InterfaceName != "" {
			if e.DriverOpts == nil {
				e.DriverOpts = map[string]string{}
			}
			e.DriverOpts[interfaceName] = c.InterfaceName
		}
		if c.MacAddress != "" {
			if mac != "" && mac != c.MacAddress {
				return nil, fmt.Errorf("mac_address is %s here and %s on the service: %w", c.MacAddress, mac, errdefs.ErrInvalidArgument)
			}
			mac = c.MacAddress
		}
	}
	if mac != "" {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return nil, fmt.Errorf("mac_address %q: %w: %w", mac, err, errdefs.ErrInvalidArgument)
		}
		e.MacAddress = network.HardwareAddr(hw)
	}
	return e, nil
}

// aliases are the names that others on the network reach the container by. Its own name is one, so that it is so for a
// container that is made under another name and renamed.
func aliases(in *Input, c *types.ServiceNetworkConfig) []string {
	names := []string{model.ContainerName(in.Project.Name, &in.Service, in.Number)}
	if in.Alone {
		if in.Number == 0 {
			return nil
		}
		return names
	}
	if c.ServiceNameAliasEnabled() {
		names = append(names, in.Service.Name)
	}
	if c != nil {
		names = append(names, c.Aliases...)
	}
	var out []string
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// Aliases are the names of a container by network.
func Aliases(in *Input) map[string][]string {
	out := map[string][]string{}
	for key, c := range in.Service.Networks {
		out[in.Project.Networks[key].Name] = aliases(in, c)
	}
	return out
}

func addresses(c *types.ServiceNetworkConfig) (*network.EndpointIPAMConfig, error) {
	var a network.EndpointIPAMConfig
	var err error
	if c.Ipv4Address != "" {
		if a.IPv4Address, err = netip.ParseAddr(c.Ipv4Address); err != nil || !a.IPv4Address.Is4() {
			return nil, fmt.Errorf("ipv4_address %q is none: %w", c.Ipv4Address, errdefs.ErrInvalidArgument)
		}
	}
	if c.Ipv6Address != "" {
		if a.IPv6Address, err = netip.ParseAddr(c.Ipv6Address); err != nil || !a.IPv6Address.Is6() {
			return nil, fmt.Errorf("ipv6_address %q is none: %w", c.Ipv6Address, errdefs.ErrInvalidArgument)
		}
	}
	for _, l := range c.LinkLocalIPs {
		ip, err := netip.ParseAddr(l)
		if err != nil {
			return nil, fmt.Errorf("link_local_ips: %q is no address: %w", l, errdefs.ErrInvalidArgument)
		}
		a.LinkLocalIPs = append(a.LinkLocalIPs, ip)
	}
	if !a.IPv4Address.IsValid() && !a.IPv6Address.IsValid() && len(a.LinkLocalIPs) == 0 {
		return nil, nil
	}
	return &a, nil
}

// Network makes the request for a network of the project's.
func Network(p *types.Project, key string) (*network.CreateRequest, error) {
	n := p.Networks[key]
	hash, err := model.NetworkHash(&n)
	if err != nil {
		return nil, err
	}
	r := &network.CreateRequest{
		Name: n.Name, Driver: n.Driver, EnableIPv4: n.EnableIPv4, EnableIPv6: n.EnableIPv6, Internal: n.Internal,
		Attachable: n.Attachable, Options: n.DriverOpts, Labels: map[string]string{},
	}
	maps.Copy(r.Labels, n.Labels)
	maps.Copy(r.Labels, map[string]string{
		model.LabelNetwork: key, model.LabelProject: p.Name, model.LabelVersion: model.Spoken, model.LabelHash: hash,
	})
	if n.Ipam.Driver != "" || len(n.Ipam.Config) > 0 || len(n.Ipam.Options) > 0 {
		r.IPAM = &network.IPAM{Driver: n.Ipam.Driver, Options: n.Ipam.Options}
		for _, pool := range n.Ipam.Config {
			c, err := addressPool(pool)
			if err != nil {
				return nil, fmt.Errorf("network %s: %w", key, err)
			}
			r.IPAM.Config = append(r.IPAM.Config, c)
		}
	}
	return r, nil
}

// addressPool is a range of addresses, whatever their version.
func addressPool(p *types.IPAMPool) (c network.IPAMConfig, err error) {
	bad := func(key, value string) (network.IPAMConfig, error) {
		return c, fmt.Errorf("ipam: %s %q cannot be read: %w", key, value, errdefs.ErrInvalidArgument)
	}
	if p.Subnet != "" {
		if c.Subnet, err = netip.ParsePrefix(p.Subnet); err != nil {
			return bad("subnet", p.Subnet)
		}
	}
	if p.IPRange != "" {
		if c.IPRange, err = netip.ParsePrefix(p.IPRange); err != nil {
			return bad("ip_range", p.IPRange)
		}
	}
	if p.Gateway != "" {
		if c.Gateway, err = netip.ParseAddr(p.Gateway); err != nil {
			return bad("gateway", p.Gateway)
		}
	}
	for name, value := range p.AuxiliaryAddresses {
		a, err := netip.ParseAddr(value)
		if err != nil {
			return bad("aux_addresses."+name, value)
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = a
	}
	return c, nil
}
