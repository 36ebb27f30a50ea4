package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// attachment is one --network with its options.
type attachment struct {
	target     string
	aliases    []string
	links      []string
	driverOpts map[string]string
	ip4, ip6   netip.Addr
	linkLocal  []netip.Addr
	mac        string
	priority   int
}

// networkFlag collects --network NAME and --network name=NAME,alias=...
type networkFlag struct {
	values []attachment
}

func (f *networkFlag) String() string { return "" }
func (f *networkFlag) Type() string   { return "network" }

func (f *networkFlag) Set(s string) error {
	if ok, err := regexp.MatchString(`\w+=\w+(,\w+=\w+)*`, s); err != nil || !ok {
		f.values = append(f.values, attachment{target: s})
		return err
	}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return err
	}
	n := attachment{driverOpts: map[string]string{}}
	for _, field := range fields {
		k, v, ok := strings.Cut(strings.ToLower(field), "=")
		if !ok || k == "" {
			return fmt.Errorf("invalid field %s", field)
		}
		if err := n.set(strings.TrimSpace(k), strings.TrimSpace(v)); err != nil {
			return err
		}
	}
	if n.target == "" {
		return errors.New("network name/id is not specified")
	}
	f.values = append(f.values, n)
	return nil
}

func (n *attachment) set(k, v string) (err error) {
	switch k {
	case "name":
		n.target = v
	case "alias":
		n.aliases = append(n.aliases, v)
	case "ip":
		if n.ip4, err = netip.ParseAddr(v); err == nil && !n.ip4.Is4() {
			err = fmt.Errorf("%s is not an IPv4 address", v)
		}
	case "ip6":
		if n.ip6, err = netip.ParseAddr(v); err == nil && !n.ip6.Is6() {
			err = fmt.Errorf("%s is not an IPv6 address", v)
		}
	case "mac-address":
		if _, err := net.ParseMAC(v); err != nil {
			return fmt.Errorf("%s is not a valid mac address", v)
		}
		n.mac = v
	case "link-local-ip":
		a, err := netip.ParseAddr(v)
		if err != nil {
			return err
		}
		n.linkLocal = append(n.linkLocal, a)
	case "driver-opt":
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			return fmt.Errorf("invalid key value pair format in driver options")
		}
		n.driverOpts[strings.TrimSpace(name)] = strings.TrimSpace(value)
	case "gw-priority":
		if n.priority, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("invalid gw-priority (%s)", v)
		}
	default:
		return fmt.Errorf("invalid field key %s", k)
	}
	return err
}

// endpointFlags are the flags that describe the first network's endpoint.
type endpointFlags struct {
	aliases, links, linkLocal listFlag
	ip4, ip6                  string
	mac                       string
}

// endpoints makes the endpoint settings of all networks.
func endpoints(nets []attachment, f *endpointFlags) (map[string]*network.EndpointSettings, error) {
	out := map[string]*network.EndpointSettings{}
	alone := len(nets) == 1
	if len(nets) == 0 {
		nets = []attachment{{target: "default"}}
	}
	user, other := false, false
	for i, n := range nets {
		if container.NetworkMode(n.target).IsUserDefined() {
			user = true
		} else {
			other = true
		}
		if i == 0 {
			if err := n.apply(f); err != nil {
				return nil, err
			}
		}
		if _, ok := out[n.target]; ok {
			return nil, fmt.Errorf("network %q is specified multiple times", n.target)
		}
		ep, err := n.settings()
		if err != nil {
			return nil, err
		}
		// docker leaves a single network out of the settings if nothing is said of it.
		if alone && reflect.ValueOf(*ep).IsZero() {
			continue
		}
		out[n.target] = ep
	}
	if user && other {
		return nil, errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	return out, nil
}

// apply merges the flags into the first network.
func (n *attachment) apply(f *endpointFlags) error {
	clash := func(flag, own string) error {
		return fmt.Errorf("conflicting options: cannot specify both %s and per-network %s", flag, own)
	}
	switch {
	case len(n.aliases) > 0 && len(f.aliases.values) > 0:
		return clash("--network-alias", "alias")
	case n.ip4.IsValid() && f.ip4 != "":
		return clash("--ip", "IPv4 address")
	case n.ip6.IsValid() && f.ip6 != "":
		return clash("--ip6", "IPv6 address")
	case n.mac != "" && f.mac != "":
		return clash("--mac-address", "MAC address")
	case len(n.linkLocal) > 0 && len(f.linkLocal.values) > 0:
		return clash("--link-local-ip", "link-local IP addresses")
	}
	n.aliases = append(n.aliases, f.aliases.values...)
	// On the default bridge a link is the container's own; on a user's network it is an alias of the endpoint.
	if container.NetworkMode(n.target).IsUserDefined() {
		n.links = f.links.values
	}
	var err error
	if f.ip4 != "" {
		if n.ip4, err = netip.ParseAddr(f.ip4); err != nil || !n.ip4.Is4() {
			return fmt.Errorf("invalid IPv4 address: %s", f.ip4)
		}
	}
	if f.ip6 != "" {
		if n.ip6, err = netip.ParseAddr(f.ip6); err != nil || !n.ip6.Is6() {
			return fmt.Errorf("invalid IPv6 address: %s", f.ip6)
		}
	}
	if f.mac != "" {
		n.mac = f.mac
	}
	for _, s := range f.linkLocal.values {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("invalid link-local IP address: %s", s)
		}
		n.linkLocal = append(n.linkLocal, a)
	}
	return nil
}

func (n *attachment) settings() (*network.EndpointSettings, error) {
	if strings.TrimSpace(n.target) == "" {
		return nil, errors.New("no name set for network")
	}
	if !container.NetworkMode(n.target).IsUserDefined() {
		switch {
		case len(n.aliases) > 0:
			return nil, errors.New("network-scoped aliases are only supported for user-defined networks")
		case len(n.links) > 0:
			return nil, errors.New("links are only supported for user-defined networks")
		}
	}
	ep := &network.EndpointSettings{Aliases: n.aliases, Links: n.links, GwPriority: n.priority}
	if len(n.driverOpts) > 0 {
		ep.DriverOpts = n.driverOpts
	}
	if n.ip4.IsValid() || n.ip6.IsValid() || len(n.linkLocal) > 0 {
		ep.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: n.ip4, IPv6Address: n.ip6, LinkLocalIPs: n.linkLocal}
	}
	if n.mac != "" {
		hw, err := net.ParseMAC(strings.TrimSpace(n.mac))
		if err != nil {
			return nil, fmt.Errorf("%s is not a valid mac address", n.mac)
		}
		ep.MacAddress = network.HardwareAddr(hw)
	}
	return ep, nil
}
