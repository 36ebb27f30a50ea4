package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/network/ipam"
)

// Config of the manager. Several daemons on one host have different ones.
type Config struct {
	// Instance tells daemons apart: it goes into the names of the bridge, the veths and the table. At most 8 characters;
	// empty means "kist".
	Instance string
	// Bridge is the default bridge's name; empty means "kist0", or one made from Instance if that is taken by another.
	Bridge string
	// BIP is the default bridge's address with its prefix; invalid means one chosen against the live routes.
	BIP netip.Prefix
	// Disabled (--bridge=none) leaves only the networks none and host.
	Disabled bool
	// DataDir holds the users' networks, and survives the machine's restart. Empty: none can be made.
	DataDir string
	// Events are told of networks that come and go; may be nil.
	Events *event.Bus
	// StateDir is below the exec root. The default bridge's last address is kept there; all else is in the kernel.
	StateDir string
}

var instanceName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,7}$`)

func (c *Config) validate() error {
	if c.Instance == "" {
		c.Instance = "kist"
	}
	if !instanceName.MatchString(c.Instance) {
		return fmt.Errorf("invalid network instance %q: want 1 to 8 letters, digits, - or _: %w", c.Instance, errdefs.ErrInvalidArgument)
	}
	if len(c.Bridge) > maxIfName {
		return fmt.Errorf("invalid bridge name %q: longer than %d characters: %w", c.Bridge, maxIfName, errdefs.ErrInvalidArgument)
	}
	if !c.BIP.IsValid() {
		return nil
	}
	if !c.BIP.Addr().Is4() {
		return fmt.Errorf("invalid bridge address %s: want an IPv4 address: %w", c.BIP, errdefs.ErrInvalidArgument)
	}
	if c.BIP.Bits() > 30 || !ipam.Usable(c.BIP.Masked(), c.BIP.Addr()) {
		return fmt.Errorf("invalid bridge address %s: want the address of a host with its prefix, as 172.17.0.1/20: %w", c.BIP, errdefs.ErrInvalidArgument)
	}
	return nil
}

// maxIfName is what an interface name may hold, without the NUL.
const maxIfName = 15

// tableName is the name of the instance's firewall table.
func (c *Config) tableName() string {
	if c.Instance == "kist" {
		return "kist"
	}
	return "kist-" + c.Instance
}

// vethPrefix starts the names of the host's ends of all veth pairs of the instance.
func (c *Config) vethPrefix() string { return c.Instance + "v" }

// vethName is the host's end of an endpoint. It follows from the endpoint's id, so that nothing else need be stored.
func (c *Config) vethName(endpointID string) string {
	p := c.vethPrefix()
	return p + endpointID[:min(maxIfName-len(p), len(endpointID))]
}

// addressFile holds the default bridge's last address.
func (c *Config) addressFile() string { return filepath.Join(c.StateDir, "bridge-address") }

// alias marks the instance's bridge as its own.
func (c *Config) alias() string { return "kist bridge of " + c.Instance }

// lanAlias marks the bridge of a user's network.
func (c *Config) lanAlias(id string) string { return "kist network " + id + " of " + c.Instance }

// linkMAC is the address of a bridge that has its name from us. The kernel gives a new link its name and address at once, its
// alias later: by the address a bridge is known that was made when the daemon died.
func (c *Config) linkMAC(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("kist bridge\x00" + c.Instance + "\x00" + name))
	return localMAC(sum[:6])
}

// partPrefix starts the names of the bridges that make others larger.
func (c *Config) partPrefix() string { return c.Instance + "x" }

// partAlias marks what makes a bridge larger.
func (c *Config) partAlias(bridge string) string {
	return "kist part of " + bridge + " of " + c.Instance
}

// networkID is stable for an instance, so that a reboot changes no id.
func (c *Config) networkID(name string) string {
	sum := sha256.Sum256([]byte("kist network\x00" + c.Instance + "\x00" + name))
	return hex.EncodeToString(sum[:])
}
