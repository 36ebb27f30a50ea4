package ipam

import (
	"encoding/binary"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// bits4 is the size of an IPv4 subnet that nobody asked for: room for the containers of one machine, small enough that
// thousands of networks fit, and addresses go round, so that one is not used again soon. Docker's /16 collides with more
// VPNs.
const bits4 = 20

// pools are where subnets are looked for, in docker's order: first one in each step, then whatever is between.
var pools = []struct {
	from  netip.Prefix
	steps int
	bits  int // the distance between two candidates, as a prefix
}{
	{netip.MustParsePrefix("172.17.0.0/16"), 15, 16},
	{netip.MustParsePrefix("192.168.0.0/16"), 16, 20},
	{netip.MustParsePrefix("10.0.0.0/8"), 256, 16},
	{netip.MustParsePrefix("172.17.0.0/16"), 15 * 16, 20},
	{netip.MustParsePrefix("10.0.0.0/8"), 256 * 16, 20},
}

// Choose4 returns the first candidate that overlaps none of the prefixes in use.
func Choose4(used []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		base := number(p.from.Addr())
		for i := range p.steps {
			c := netip.PrefixFrom(address(base+uint32(i)<<(32-p.bits)), bits4)
			if !Overlaps(c, used) {
				return c, nil
			}
		}
	}
	return netip.Prefix{}, &fault.Error{
		Code: "no-subnet", What: "cannot choose a subnet",
		Cause: "every private range overlaps an address, a route or a network of this host",
		Try:   "--subnet ADDRESS/PREFIX for a network, --bip ADDRESS/PREFIX for the daemon", Class: errdefs.ErrFailedPrecondition,
	}
}

// Choose6 returns a unique local /64 (RFC 4193) that overlaps none of the prefixes in use. random fills its argument with
// random bytes.
func Choose6(used []netip.Prefix, random func([]byte) (int, error)) (netip.Prefix, error) {
	for {
		var b [16]byte
		if _, err := random(b[1:8]); err != nil {
			return netip.Prefix{}, err
		}
		b[0] = 0xfd
		if p := netip.PrefixFrom(netip.AddrFrom16(b), 64); !Overlaps(p, used) {
			return p, nil
		}
	}
}

// Overlaps ignores default routes, which contain everything.
func Overlaps(c netip.Prefix, used []netip.Prefix) bool {
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

// Last is the last address of p; with IPv4 the broadcast address.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		keep := min(max(p.Bits()-8*i, 0), 8)
		b[i] |= 0xff >> keep
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Usable says whether a host in subnet may have the address: not the network's own (with IPv6 that of any router), nor the
// broadcast address. Point-to-point subnets have neither.
func Usable(subnet netip.Prefix, a netip.Addr) bool {
	if !subnet.Contains(a) {
		return false
	}
	if a.BitLen()-subnet.Bits() <= 1 {
		return true
	}
	return a != subnet.Masked().Addr() && (a.Is6() || a != Last(subnet))
}
