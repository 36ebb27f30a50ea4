package ipam

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// Pool hands out the addresses of one subnet, round and round, so that one given back is used again as late as possible.
// It is not safe for concurrent use.
type Pool struct {
	subnet   netip.Prefix
	span     netip.Prefix // where addresses are taken from; any of the subnet's can be asked for
	gateway  netip.Addr
	reserved map[netip.Addr]string // what nobody may have, and why
	taken    map[netip.Addr]string // the owner that has it
	next     netip.Addr
}

// NewPool of a subnet. The range may be invalid: then it is the subnet. The gateway may be, too: then every address is a
// container's. Auxiliary addresses belong to somebody else.
func NewPool(subnet, span netip.Prefix, gateway netip.Addr, aux map[string]netip.Addr) *Pool {
	p := &Pool{subnet: subnet.Masked(), span: span.Masked(), gateway: gateway, reserved: map[netip.Addr]string{}, taken: map[netip.Addr]string{}}
	if !span.IsValid() {
		p.span = p.subnet
	}
	for name, a := range aux {
		p.reserved[a] = "it is set aside for " + name
	}
	if gateway.IsValid() {
		p.reserved[gateway] = "it is the gateway's"
	}
	p.next = p.span.Addr()
	return p
}

// Subnet is the pool's.
func (p *Pool) Subnet() netip.Prefix { return p.subnet }

// Gateway is the pool's, invalid if it has none.
func (p *Pool) Gateway() netip.Addr { return p.gateway }

// take returns a free address.
func (p *Pool) take(owner string) (netip.Addr, error) {
	// Of so many addresses at least one is free, if any is.
	for range min(size(p.span), uint64(len(p.taken)+len(p.reserved)+3)) {
		a := p.next
		if p.next = a.Next(); !p.span.Contains(p.next) {
			p.next = p.span.Addr()
		}
		if p.free(a) {
			p.taken[a] = owner
			return a, nil
		}
	}
	return netip.Addr{}, &fault.Error{
		Code: "no-address", What: "cannot give the container an address",
		Cause: fmt.Sprintf("all %d addresses of %s are in use", len(p.taken), p.span), Try: "a network with a larger --subnet", Class: errdefs.ErrResourceExhausted,
	}
}

func (p *Pool) free(a netip.Addr) bool {
	_, used := p.taken[a]
	_, reserved := p.reserved[a]
	return !used && !reserved && Usable(p.subnet, a)
}

// claim takes the address that was asked for.
func (p *Pool) claim(want netip.Addr, owner string) error {
	what := fmt.Sprintf("cannot give the container the address %s", want)
	if !Usable(p.subnet, want) {
		return &fault.Error{
			Code: "address-outside", What: what,
			Cause: fmt.Sprintf("it is no address for a host in the subnet %s", p.subnet), Class: errdefs.ErrInvalidArgument,
		}
	}
	if why, no := p.reserved[want]; no {
		return &fault.Error{Code: "address-in-use", What: what, Cause: why, Class: errdefs.ErrConflict}
	}
	if by, used := p.taken[want]; used && by != owner {
		return &fault.Error{Code: "address-in-use", What: what, Cause: "another container has it", Class: errdefs.ErrConflict}
	}
	p.taken[want] = owner
	return nil
}

// release gives an address back, if it is the owner's.
func (p *Pool) release(a netip.Addr, owner string) {
	if p.taken[a] == owner {
		delete(p.taken, a)
	}
}

// Taken calls fn for each address that somebody has, until it returns false.
func (p *Pool) Taken(fn func(a netip.Addr, owner string) bool) {
	for a, owner := range p.taken {
		if !fn(a, owner) {
			return
		}
	}
}

// Count tells how many of the subnet's addresses nobody can have any more, and how many of the range's are free; both end
// at the largest number there is.
func (p *Pool) Count() (inUse, available uint64) {
	unusable, inSpan := uint64(0), uint64(0)
	for _, a := range []netip.Addr{p.subnet.Addr(), Last(p.subnet)} {
		if !Usable(p.subnet, a) {
			unusable++
			if p.span.Contains(a) {
				inSpan++
			}
		}
	}
	for _, m := range []map[netip.Addr]string{p.taken, p.reserved} {
		for a := range m {
			if p.span.Contains(a) {
				inSpan++
			}
		}
	}
	return unusable + uint64(len(p.taken)+len(p.reserved)), size(p.span) - inSpan
}

// size is the number of addresses, at most the largest number there is.
func size(p netip.Prefix) uint64 {
	bits := p.Addr().BitLen() - p.Bits()
	if bits >= 64 {
		return math.MaxUint64
	}
	return 1 << bits
}
