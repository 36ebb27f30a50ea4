package network

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/network/ipam"
	"github.com/kistdev/kist/internal/undo"
)

// Create makes a network: its links, the firewall's rules for them, and a row, all or nothing.
func (m *Manager) Create(ctx context.Context, r network.CreateRequest) (_ network.CreateResponse, err error) {
	m.making.Lock()
	defer m.making.Unlock()
	if m.links == nil {
		return network.CreateResponse{}, fmt.Errorf("the daemon runs with --bridge=none, and makes no networks: %w", errdefs.ErrFailedPrecondition)
	}
	l, warning, err := m.plan(&r)
	if err != nil {
		return network.CreateResponse{}, err
	}
	var u undo.Stack
	defer func() {
		if failed := u.Unwind(ctx); failed != nil {
			err = errors.Join(err, failed)
		}
	}()
	if err := m.raise(l); err != nil {
		return network.CreateResponse{}, err
	}
	u.Push("remove links", func(context.Context) error { return m.lower(l) })
	if err := m.rows.put(&l.row); err != nil {
		return network.CreateResponse{}, err
	}
	u.Push("remove row", func(context.Context) error { return m.rows.remove(&l.row) })
	m.mu.Lock()
	m.lans[l.ID] = l
	m.mu.Unlock()
	if err := m.renewRules(l); err != nil {
		m.mu.Lock()
		delete(m.lans, l.ID)
		m.mu.Unlock()
		return network.CreateResponse{}, err
	}
	u.Release()
	m.emit(events.ActionCreate, l)
	return network.CreateResponse{ID: l.ID, Warning: warning}, nil
}

// renewRules tells the firewall of the networks there are now, if the one that changed has a bridge.
func (m *Manager) renewRules(l *lan) error {
	if l.link == nil {
		return nil
	}
	return m.fw.SetBridges(m.bridges())
}

func (m *Manager) emit(action events.Action, l *lan) {
	if m.c.Events != nil {
		m.c.Events.Emit(events.NetworkEventType, action, l.ID, map[string]string{"name": l.Name, "type": l.Driver})
	}
}

// plan checks the request and completes it. It has no effects.
func (m *Manager) plan(r *network.CreateRequest) (*lan, string, error) {
	if err := m.checkName(r.Name); err != nil {
		return nil, "", err
	}
	if err := m.configure(r); err != nil {
		return nil, "", err
	}
	if err := checkDriver(r); err != nil {
		return nil, "", err
	}
	o, err := parseOptions(r.Driver, r.Options)
	if err != nil {
		return nil, "", err
	}
	n := row{
		ID: newID(), Name: r.Name, Driver: r.Driver, Created: time.Now().UTC(), Internal: r.Internal, Attachable: r.Attachable,
		ConfigOnly: r.ConfigOnly, IPAM: *r.IPAM, Options: maps.Clone(r.Options), Labels: maps.Clone(r.Labels),
	}
	if r.ConfigFrom != nil {
		n.ConfigFrom = r.ConfigFrom.Network
	}
	if err := families(&n, r); err != nil {
		return nil, "", err
	}
	if n.ConfigOnly {
		l, err := newLAN(n)
		return l, "", err
	}
	if (o.gateway4 == gatewayIsolated || o.gateway6 == gatewayIsolated) && !n.Internal {
		return nil, "", fmt.Errorf("gateway mode 'isolated' can only be used for an internal network: %w", errdefs.ErrInvalidArgument)
	}
	warning, err := m.subnet(&n, &o)
	if err != nil {
		return nil, "", err
	}
	l, err := newLAN(n)
	if err == nil && l.Driver != driverBridge {
		err = m.checkParent(l)
	}
	return l, warning, err
}

func (m *Manager) checkParent(l *lan) error {
	if l.parentName() == "" {
		return noParent(l, "no interface of the host was named")
	}
	_, err := m.parentOf(l)
	return err
}

// maxName is how long a network's name may be.
const maxName = 255

var lanName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func (m *Manager) checkName(name string) error {
	switch name {
	case "":
		return fmt.Errorf("invalid name: name is empty: %w", errdefs.ErrInvalidArgument)
	case network.NetworkBridge, network.NetworkHost, network.NetworkNone, network.NetworkDefault:
		return fmt.Errorf("operation is not permitted on predefined %s network: %w", name, errdefs.ErrPermissionDenied)
	}
	if len(name) > maxName {
		return fmt.Errorf("invalid network name: it has %d characters, and %d are allowed: %w", len(name), maxName, errdefs.ErrInvalidArgument)
	}
	if !lanName.MatchString(name) {
		return fmt.Errorf("invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed: %w", name, errdefs.ErrInvalidArgument)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lans {
		if l.Name == name {
			return fmt.Errorf("network with name %s already exists: %w", name, errdefs.ErrConflict)
		}
	}
	return nil
}

// configure takes what a config-only network says into the request, which must say nothing of the kind itself.
func (m *Manager) configure(r *network.CreateRequest) error {
	if r.IPAM == nil {
		r.IPAM = &network.IPAM{}
	}
	if r.ConfigFrom == nil || r.ConfigFrom.Network == "" {
		r.ConfigFrom = nil
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	from, err := m.find(r.ConfigFrom.Network)
	switch {
	case err != nil:
		return fmt.Errorf("configuration network: %w", err)
	case !from.ConfigOnly || r.ConfigOnly:
		return fmt.Errorf("network %s is not a configuration that others can be made from: %w", from.Name, errdefs.ErrInvalidArgument)
	case len(r.IPAM.Config) > 0 || len(r.Options) > 0 || r.EnableIPv6 != nil:
		return fmt.Errorf("a network made from the configuration of %s cannot have settings of its own: %w", from.Name, errdefs.ErrInvalidArgument)
	}
	r.ConfigFrom.Network = from.Name
	r.IPAM, r.Options, r.Internal = &from.IPAM, from.Options, r.Internal || from.Internal
	r.EnableIPv4, r.EnableIPv6 = &from.IPv4, &from.IPv6
	labels := maps.Clone(from.Labels)
	maps.Copy(labels, r.Labels)
	r.Labels = labels
	return nil
}

func checkDriver(r *network.CreateRequest) error {
	if r.Driver == "" || r.Driver == network.NetworkDefault {
		r.Driver = driverBridge
	}
	switch {
	case r.Scope != "" && r.Scope != "local", r.Ingress:
		return fmt.Errorf("networks that span several machines are not served: %w", errdefs.ErrNotImplemented)
	case r.Driver == driverHost, r.Driver == driverNull:
		return fmt.Errorf("only one instance of %q network is allowed: %w", r.Driver, errdefs.ErrPermissionDenied)
	case r.Driver != driverBridge && r.Driver != driverMacvlan && r.Driver != driverIPvlan:
		return &fault.Error{
			Code: "unknown-network-driver", What: fmt.Sprintf("there is no network driver %q", r.Driver), Cause: "plugin not found; there are bridge, macvlan and ipvlan",
			Class: errdefs.ErrNotFound,
		}
	case r.IPAM.Driver != "" && r.IPAM.Driver != "default":
		return &fault.Error{
			Code: "unknown-ipam-driver", What: fmt.Sprintf("there is no IPAM driver %q", r.IPAM.Driver), Cause: "there is only default", Class: errdefs.ErrNotFound,
		}
	case len(r.IPAM.Options) > 0:
		return fmt.Errorf("the IPAM driver default has no options: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// families decides about IPv4 and IPv6: what was said, else IPv4, and IPv6 where the host has it or a subnet is given.
func families(n *row, r *network.CreateRequest) error {
	n.IPv4 = said(r.EnableIPv4, r.Options[optIPv4], true)
	given := false
	for _, c := range r.IPAM.Config {
		given = given || c.Subnet.IsValid() && c.Subnet.Addr().Is6() && !c.Subnet.Addr().Is4In6()
	}
	n.IPv6 = said(r.EnableIPv6, r.Options[optIPv6], given || hostHasIPv6() && n.Driver == driverBridge && !n.ConfigOnly)
	if !n.IPv4 && !n.IPv6 {
		return fmt.Errorf("IPv4 or IPv6 must be enabled: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func said(field *bool, option string, otherwise bool) bool {
	if field != nil {
		return *field
	}
	if on, err := strconv.ParseBool(option); err == nil {
		return on
	}
	return otherwise
}

// subnet checks the subnets that were asked for and chooses those that were not, with their gateways.
func (m *Manager) subnet(n *row, o *options) (warning string, err error) {
	asked := n.IPAM.Config
	n.IPAM = network.IPAM{Driver: "default", Options: n.IPAM.Options}
	has4, has6 := false, false
	for _, c := range asked {
		if c.Subnet, err = checkSubnet(&c); err != nil {
			return "", err
		}
		if six := c.Subnet.Addr().Is6(); six && !n.IPv6 || !six && !n.IPv4 {
			return "", fmt.Errorf("the subnet %s is of a family that the network does not have: %w", c.Subnet, errdefs.ErrInvalidArgument)
		} else if six {
			has6 = true
		} else {
			has4 = true
		}
		for _, other := range n.IPAM.Config {
			if other.Subnet.Overlaps(c.Subnet) {
				return "", fmt.Errorf("the subnets %s and %s overlap: %w", other.Subnet, c.Subnet, errdefs.ErrInvalidArgument)
			}
		}
		w, err := m.unclaimed(c.Subnet, n.Driver, o.bridge)
		if err != nil {
			return "", err
		}
		if w != "" {
			warning = w
		}
		n.IPAM.Config = append(n.IPAM.Config, c)
	}
	if n.IPv4 && !has4 {
		if err := m.choose(n, false); err != nil {
			return "", err
		}
	}
	if n.IPv6 && !has6 {
		if err := m.choose(n, true); err != nil {
			return "", err
		}
	}
	for i := range n.IPAM.Config {
		if err := checkRest(&n.IPAM.Config[i]); err != nil {
			return "", err
		}
	}
	return warning, nil
}

// choose adds a subnet that nobody has.
func (m *Manager) choose(n *row, six bool) error {
	family := unix.AF_INET
	if six {
		family = unix.AF_INET6
	}
	used, err := usedPrefixes(m.links, family)
	if err != nil {
		return err
	}
	m.mu.Lock()
	for _, l := range m.lans {
		used = append(used, l.subnets()...)
	}
	m.mu.Unlock()
	var p netip.Prefix
	if six {
		p, err = ipam.Choose6(used, rand.Read)
	} else {
		p, err = ipam.Choose4(used)
	}
	if err != nil {
		return err
	}
	n.IPAM.Config = append(n.IPAM.Config, network.IPAMConfig{Subnet: p})
	return nil
}
