package network

import (
	"encoding/binary"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// subnetBits is the size of a subnet that nobody asked for: a Linux bridge has 1,023 ports, and addresses go round among
// four times as many, so that one is not used again soon. Docker's /16 collides with more VPNs.
const subnetBits = 20

// pools are where subnets are looked for, in docker's order: of each /16 or larger step the first subnetBits.
var pools = []struct {
	from  netip.Prefix
	steps int
	bits  int // the distance between two candidates, as a prefix
}{
	{netip.MustParsePrefix("172.17.0.0/16"), 15, 16},
	{netip.MustParsePrefix("192.168.0.0/16"), 16, 20},
	{netip.MustParsePrefix("10.0.0.0/8"), 256, 16},
}

// chooseSubnet returns the first candidate that overlaps none of the prefixes in use.
func chooseSubnet(used []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		base := number(p.from.Addr())
		for i := range p.steps {
			c := netip.PrefixFrom(address(base+uint32(i)<<(32-p.bits)), subnetBits)
			if !overlaps(c, used) {
				return c, nil
			}
		}
	}
	return netip.Prefix{}, &fault.Error{
		Code: "no-subnet", What: "cannot choose a subnet for the bridge",
		Cause: "every private range overlaps an address or route of this host",
		Try:   "kist daemon --bip ADDRESS/PREFIX", Class: errdefs.ErrFailedPrecondition,
	}
}

// overlaps ignores default routes, which contain everything.
func overlaps(c netip.Prefix, used []netip.Prefix) bool {
	for _, u := range used {
		if u.Bits() > 0 && u.Overlaps(c) {
			return true
		}
	}
	return false
}

// number and address treat an IPv4 address as the integer that it is.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// lastOf is the broadcast address of p.
func lastOf(p netip.Prefix) netip.Addr {
	return address(number(p.Masked().Addr()) | ^uint32(0)>>p.Bits())
}

// usable says whether a host in subnet may have the address: not the network's own nor the broadcast address.
func usable(subnet netip.Prefix, a netip.Addr) bool {
	return subnet.Contains(a) && a != subnet.Masked().Addr() && a != lastOf(subnet)
}
