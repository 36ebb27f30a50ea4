package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/fault"
)

// wanted is an endpoint as the user wants it.
type wanted struct {
	lan      *lan
	settings *network.EndpointSettings
	v4, v6   netip.Addr
	mac      network.HardwareAddr
	ifName   string
	sysctls  map[string]string
}

// plain says whether any endpoint on the network would do.
func (w *wanted) plain() bool {
	return !w.v4.IsValid() && !w.v6.IsValid() && len(w.mac) == 0 && w.ifName == "" && len(w.sysctls) == 0
}

// seats resolves the networks of the request, that of the container's mode first, the others by name.
func (m *Manager) seats(r *JoinRequest) ([]*wanted, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := r.Network
	if name == "" {
		name = network.NetworkBridge
	}
	first, err := m.want(name, r.Endpoint)
	if err != nil {
		return nil, err
	}
	list := []*wanted{first}
	for _, name := range slices.Sorted(maps.Keys(r.More)) {
		w, err := m.want(name, r.More[name])
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(o *wanted) bool { return o.lan == w.lan }) {
			return nil, fmt.Errorf("network %s is named twice: %w", w.lan.Name, errdefs.ErrInvalidArgument)
		}
		list = append(list, w)
	}
	for _, w := range list {
		if len(list) > 1 && w.lan == m.none {
			return nil, fmt.Errorf("container cannot be connected to multiple networks with one of the networks in private (none) mode: %w", errdefs.ErrInvalidArgument)
		}
	}
	return list, nil
}

// want resolves one of them. m.mu is held.
func (m *Manager) want(name string, s *network.EndpointSettings) (*wanted, error) {
	l, err := m.find(name)
	if err != nil {
		return nil, err
	}
	w := &wanted{lan: l, settings: s}
	switch {
	case l == m.hostLAN:
		return nil, fmt.Errorf("cannot connect container to host network - container must be created in host network mode: %w", errdefs.ErrInvalidArgument)
	case l.ConfigOnly:
		return nil, fmt.Errorf("cannot connect container to config-only network: %s: %w", l.Name, errdefs.ErrPermissionDenied)
	case s == nil:
		return w, nil
	}
	return w, w.read(s)
}

// read takes the wishes out of the settings.
func (w *wanted) read(s *network.EndpointSettings) error {
	if len(s.MacAddress) != 0 && (len(s.MacAddress) != 6 || s.MacAddress[0]&1 != 0) {
		return fmt.Errorf("invalid MAC address %s: want six bytes, not a group's: %w", s.MacAddress, errdefs.ErrInvalidArgument)
	}
	w.mac = s.MacAddress
	if c := s.IPAMConfig; c != nil {
		w.v4, w.v6 = c.IPv4Address.Unmap(), c.IPv6Address
		if len(c.LinkLocalIPs) > 0 {
			return &fault.Error{
				Code: "link-local", What: "cannot give the container a link-local address of the user's",
				Cause: "each interface has one made from its MAC address", Class: errdefs.ErrNotImplemented,
			}
		}
	}
	if w.v6.IsValid() && !w.lan.IPv6 {
		return w.lan.lacks(w.v6, "IPv6", "network create --ipv6")
	}
	if w.v4.IsValid() && !w.lan.IPv4 {
		return w.lan.lacks(w.v4, "IPv4", "network create --ipv4")
	}
	return w.readOptions(s.DriverOpts)
}

func (l *lan) lacks(a netip.Addr, family, try string) error {
	code := "no-ipv6"
	if a.Is4() {
		code = "no-ipv4"
	}
	return &fault.Error{
		Code: code, What: fmt.Sprintf("cannot give the container the address %s", a),
		Cause: fmt.Sprintf("the network %s has no %s addresses", l.Name, family), Try: try, Class: errdefs.ErrInvalidArgument,
	}
}

func (w *wanted) readOptions(opts map[string]string) error {
	for name, value := range opts {
		switch name {
		case optIfName:
			if err := checkLinkName(value); err != nil || value == "lo" {
				return fmt.Errorf("invalid interface name %q: want up to %d characters, and not lo: %w", value, maxIfName, errdefs.ErrInvalidArgument)
			}
			w.ifName = value
		case optSysctls:
			for s := range strings.SplitSeq(value, ",") {
				key, v, ok := strings.Cut(strings.TrimSpace(s), "=")
				if !ok || !strings.Contains(key, ".IFNAME.") || !strings.HasPrefix(key, "net.") {
					return fmt.Errorf("invalid endpoint sysctl %q: want net.X.Y.IFNAME.Z=value: %w", s, errdefs.ErrInvalidArgument)
				}
				if w.sysctls == nil {
					w.sysctls = map[string]string{}
				}
				w.sysctls[key] = v
			}
		default:
			return unknownOption(w.lan.Driver+" (of an endpoint)", name, []string{optIfName, optSysctls})
		}
	}
	return nil
}

// interfaceSysctl puts the interface's name into the key; dots in it are written as slashes.
func interfaceSysctl(key, name string) string {
	return strings.Replace(key, ".IFNAME.", "."+strings.ReplaceAll(name, ".", "/")+".", 1)
}

// sit takes addresses on the network for the container, which counts as its user from here on.
func (m *Manager) sit(a *attachment, w *wanted, index int) (_ *endpoint, err error) {
	if err := m.ready(w.lan); err != nil {
		return nil, err
	}
	e := &endpoint{id: newID(), lan: w.lan, owner: a.label(), ifName: w.ifName, index: index, mac: w.mac}
	// What others see until it is complete.
	seat := &endpoint{id: e.id, lan: e.lan, owner: e.owner}
	if err := m.enter(a, seat); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.vacateSeat(a, seat)
			m.letGo(e)
		}
	}()
	had4, had6 := m.reclaim(w.lan, a.id)
	if w.lan.IPv4 {
		if e.addr, e.via, err = m.leaseOr(w.lan, false, w.v4, had4, e.id); err != nil {
			return nil, err
		}
	}
	if w.lan.IPv6 {
		if e.addr6, e.via6, err = m.leaseOr(w.lan, true, w.v6, had6, e.id); err != nil {
			return nil, err
		}
	}
	if w.lan.layer3() {
		e.direct, e.via, e.via6 = true, netip.Addr{}, netip.Addr{}
	}
	if len(e.mac) == 0 {
		switch {
		case e.addr6.IsValid() && w.v6.IsValid() && !w.v4.IsValid():
			e.mac = macOf(e.addr6.Addr())
		case e.addr.IsValid():
			e.mac = macOf(e.addr.Addr())
		case e.addr6.IsValid():
			e.mac = macOf(e.addr6.Addr())
		}
	}
	if w.lan.wired() {
		e.veth = m.c.vethName(e.id)
	}
	var aliases, links []string
	if w.settings != nil {
		aliases, links = w.settings.Aliases, w.settings.Links
	}
	e.name(a, aliases)
	e.links = linkNames(links)
	e.describe(w.settings)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.lan.ends[a.id] != seat {
		return nil, fmt.Errorf("network %s: the container was disconnected meanwhile: %w", e.lan.Name, errdefs.ErrConflict)
	}
	e.lan.ends[a.id] = e
	return e, nil
}

// leaseOr takes the wanted address, else the one that the container had, else any.
func (m *Manager) leaseOr(l *lan, six bool, want, had netip.Addr, owner string) (netip.Prefix, netip.Addr, error) {
	if !want.IsValid() && had.IsValid() {
		m.mu.Lock()
		p, via, err := l.tryLease(six, had, owner)
		m.mu.Unlock()
		if err == nil {
			return p, via, nil
		}
	}
	return m.lease(l, six, want, owner)
}

// enter makes the container a user of the network, which can then not be removed.
func (m *Manager) enter(a *attachment, e *endpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.lan.gone {
		return m.unknown(e.lan.Name)
	}
	e.lan.ends[a.id] = e
	return nil
}

// linkNames reads container:alias.
func linkNames(links []string) map[string]string {
	if len(links) == 0 {
		return nil
	}
	m := make(map[string]string, len(links))
	for _, l := range links {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = name
		}
		m[alias] = name
	}
	return m
}

// nameInterfaces gives eth0, eth1 and so on to those that have no name, but no name twice.
func nameInterfaces(ends []*endpoint) {
	taken := map[string]bool{}
	for _, e := range ends {
		taken[e.ifName] = true
	}
	for _, e := range ends {
		for i := 0; e.ifName == ""; i++ {
			if name := e.lan.ifPrefix + strconv.Itoa(i); !taken[name] {
				e.ifName, taken[name] = name, true
			}
		}
	}
}
