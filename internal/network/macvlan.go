package network

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// The kernel's modes of macvlan and ipvlan, and flags of ipvlan, by docker's names; the empty ones are docker's defaults.
var (
	macvlanModes = map[string]uint32{"": 4, "private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
	ipvlanModes  = map[string]uint32{"": 0, "l2": 0, "l3": 1, "l3s": 2}
	ipvlanKinds  = map[string]uint32{"": 0, "bridge": 0, "private": 1, "vepa": 2}
)

// layer3 says whether the network routes instead of switching: nobody is asked for MAC addresses, and there is no gateway.
func (l *lan) layer3() bool { return l.Driver == driverIPvlan && strings.HasPrefix(l.mode, "l3") }

// plugSublink makes an interface on the network's parent link.
func (m *Manager) plugSublink(ns *os.File, e *endpoint) error {
	parent, err := m.parentOf(e.lan)
	if err != nil {
		return err
	}
	mode, flags := macvlanModes[e.lan.mode], uint32(0)
	if e.lan.Driver == driverIPvlan {
		mode, flags = ipvlanModes[e.lan.mode], ipvlanKinds[e.lan.flag]
	}
	in := farEnd{ns: int(ns.Fd()), index: e.index, name: e.ifName, mac: e.mac, mtu: e.lan.mtu}
	err = m.rt.do(sublink(e.lan.Driver, parent.Attrs().Index, mode, flags, in))
	f := &fault.Error{
		Code: "no-sublink", What: fmt.Sprintf("cannot connect the container to the network %s", e.lan.Name),
		Class: errdefs.ErrFailedPrecondition, Err: err,
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		f.Cause = "this kernel has no " + e.lan.Driver
		return f
	case errors.Is(err, unix.EBUSY):
		f.Cause = fmt.Sprintf("the interface %s is in use in another way (macvlan and ipvlan exclude each other, a bridge excludes both)", e.lan.parentName())
		return f
	case errors.Is(err, unix.EADDRINUSE):
		f.Cause = fmt.Sprintf("another interface on %s has the MAC address %s", e.lan.parentName(), e.mac)
		return f
	}
	return m.found(ns, e, err)
}

func (l *lan) parentName() string { return l.parent }

// parentOf finds the link that the network sits on. A name such as eth0.20 is a VLAN of eth0, made if it is not there.
func (m *Manager) parentOf(l *lan) (netlink.Link, error) {
	name := l.parentName()
	link, err := m.links.LinkByName(name)
	if err == nil {
		return link, nil
	}
	if !errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, fmt.Errorf("look for interface %s: %w", name, err)
	}
	base, id, ok := cutVLAN(name)
	if !ok {
		return nil, noParent(l, "this host has no interface "+name)
	}
	under, err := m.links.LinkByName(base)
	if err != nil {
		return nil, noParent(l, fmt.Sprintf("this host has neither an interface %s nor %s", name, base))
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, under.Attrs().Index
	if err := m.links.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: id}); err != nil {
		return nil, noParent(l, fmt.Sprintf("the VLAN interface %s could not be made: %v", name, err))
	}
	if link, err = m.links.LinkByName(name); err == nil {
		err = errors.Join(m.links.LinkSetAlias(link, m.c.lanAlias(l.ID)), m.links.LinkSetUp(link))
	}
	if err != nil {
		return nil, fmt.Errorf("make interface %s: %w", name, err)
	}
	return link, nil
}

func noParent(l *lan, cause string) error {
	return &fault.Error{
		Code: "no-parent", What: fmt.Sprintf("the %s network %s has nothing to sit on", l.Driver, l.Name), Cause: cause,
		Try: "network create -o parent=INTERFACE", Class: errdefs.ErrInvalidArgument,
	}
}

func cutVLAN(name string) (base string, id int, ok bool) {
	base, tail, ok := strings.Cut(name, ".")
	id, err := strconv.Atoi(tail)
	return base, id, ok && base != "" && err == nil && id > 0 && id < 4095
}
