package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// Drivers' names.
const (
	driverBridge  = "bridge"
	driverMacvlan = "macvlan"
	driverIPvlan  = "ipvlan"
	driverHost    = "host"
	driverNull    = "null"
)

// Options of the drivers, as docker calls them.
const (
	optBridgeName   = "com.docker.network.bridge.name"
	optICC          = "com.docker.network.bridge.enable_icc"
	optMasquerade   = "com.docker.network.bridge.enable_ip_masquerade"
	optHostBinding  = "com.docker.network.bridge.host_binding_ipv4"
	optInhibitIPv4  = "com.docker.network.bridge.inhibit_ipv4"
	optGatewayMode4 = "com.docker.network.bridge.gateway_mode_ipv4"
	optGatewayMode6 = "com.docker.network.bridge.gateway_mode_ipv6"
	optDefault      = "com.docker.network.bridge.default_bridge"
	optMTU          = "com.docker.network.driver.mtu"
	optIfPrefix     = "com.docker.network.container_iface_prefix"
	optIfName       = "com.docker.network.endpoint.ifname"
	optSysctls      = "com.docker.network.endpoint.sysctls"
	optIPv4         = "com.docker.network.enable_ipv4"
	optIPv6         = "com.docker.network.enable_ipv6"
	optParent       = "parent"
	optMacvlanMode  = "macvlan_mode"
	optIPvlanMode   = "ipvlan_mode"
	optIPvlanFlag   = "ipvlan_flag"
	optInternal     = "internal"
)

// gatewayMode is how a bridge network meets the world, per family.
type gatewayMode string

const (
	gatewayNAT         gatewayMode = "nat"
	gatewayUnprotected gatewayMode = "nat-unprotected"
	gatewayIsolated    gatewayMode = "isolated" // the host has no address there
)

// options are a network's, parsed.
type options struct {
	bridge       string // the link's name; empty for one made from the network's id
	mtu          int    // 0 for that of the default route
	apart        bool   // containers do not reach each other
	masquerade   bool
	hostAddr     netip.Addr // where ports are published that name no address; invalid for all
	gateway4     gatewayMode
	gateway6     gatewayMode
	ifPrefix     string
	parent, mode string
	flag         string
}

// parseOptions refuses what the driver does not know: a misspelt option that is ignored is found too late.
func parseOptions(driver string, all map[string]string) (options, error) {
	o := options{masquerade: true, gateway4: gatewayNAT, gateway6: gatewayNAT, ifPrefix: "eth"}
	known := o.parsers(driver)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		parse, ok := known[name]
		if !ok {
			return o, unknownOption(driver, name, slices.Sorted(maps.Keys(known)))
		}
		if err := parse(all[name]); err != nil {
			return o, &fault.Error{
				Code: "bad-network-option", What: fmt.Sprintf("invalid value %q of the network option %s", all[name], name),
				Cause: err.Error(), Class: errdefs.ErrInvalidArgument,
			}
		}
	}
	return o, nil
}

func unknownOption(driver, name string, known []string) error {
	f := &fault.Error{
		Code: "unknown-network-option", What: fmt.Sprintf("the network driver %s has no option %q", driver, name),
		Cause: "it has " + strings.Join(known, ", "), Class: errdefs.ErrInvalidArgument,
	}
	if near := typo.Nearest(name, known); near != "" {
		f.Try = near
	}
	return f
}

// parsers of the driver's options write into o.
func (o *options) parsers(driver string) map[string]func(string) error {
	ignored := func(string) error { return nil }
	m := map[string]func(string) error{
		optMTU: o.parseMTU, optIfPrefix: o.parsePrefix,
		optIPv4: boolean(new(bool)), optIPv6: boolean(new(bool)), // looked at before
	}
	text := func(to *string, allowed ...string) func(string) error {
		return func(s string) error { *to = s; return oneOf(s, allowed) }
	}
	switch driver {
	case driverBridge:
		m[optBridgeName] = func(s string) error { o.bridge = s; return checkLinkName(s) }
		m[optICC] = func(s string) error { var on bool; err := boolean(&on)(s); o.apart = !on; return err }
		m[optMasquerade] = boolean(&o.masquerade)
		m[optHostBinding] = o.parseHostAddr
		m[optGatewayMode4] = mode(&o.gateway4)
		m[optGatewayMode6] = mode(&o.gateway6)
		m[optInhibitIPv4] = func(s string) error {
			var on bool
			err := boolean(&on)(s)
			if on {
				o.gateway4 = gatewayIsolated
			}
			return err
		}
		m[optDefault] = ignored
	case driverMacvlan:
		m[optParent] = func(s string) error { o.parent = s; return checkLinkName(s) }
		m[optMacvlanMode] = text(&o.mode, "bridge", "vepa", "private", "passthru")
		m[optInternal] = ignored
	case driverIPvlan:
		m[optParent] = func(s string) error { o.parent = s; return checkLinkName(s) }
		m[optIPvlanMode] = text(&o.mode, "l2", "l3", "l3s")
		m[optIPvlanFlag] = text(&o.flag, "bridge", "private", "vepa")
		m[optInternal] = ignored
	}
	return m
}

func oneOf(s string, allowed []string) error {
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
	}
	return nil
}

func boolean(to *bool) func(string) error {
	return func(s string) (err error) {
		if *to, err = strconv.ParseBool(s); err != nil {
			return fmt.Errorf("want true or false")
		}
		return nil
	}
}

func mode(to *gatewayMode) func(string) error {
	return func(s string) error {
		if s == "routed" {
			return fmt.Errorf("the mode routed is not served; nat-unprotected lets containers be reached by their own addresses")
		}
		*to = gatewayMode(s)
		return oneOf(s, []string{string(gatewayNAT), string(gatewayUnprotected), string(gatewayIsolated)})
	}
}

func (o *options) parseMTU(s string) (err error) {
	if o.mtu, err = strconv.Atoi(s); err != nil || o.mtu < 0 || o.mtu > 65535 || o.mtu > 0 && o.mtu < 68 {
		return fmt.Errorf("want a number from 68 to 65535")
	}
	return nil
}

func (o *options) parsePrefix(s string) error {
	if o.ifPrefix = s; s == "lo" || len(s) > maxIfName-3 || checkLinkName(s) != nil {
		return fmt.Errorf("want the beginning of an interface's name")
	}
	return nil
}

func (o *options) parseHostAddr(s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return fmt.Errorf("want an IPv4 address")
	}
	if !a.IsUnspecified() {
		o.hostAddr = a
	}
	return nil
}

// checkLinkName says what the kernel would only say as "invalid argument".
func checkLinkName(s string) error {
	if s == "" || len(s) > maxIfName || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r\x00") {
		return fmt.Errorf("want an interface's name of at most %d characters, without slashes, colons and spaces", maxIfName)
	}
	return nil
}
