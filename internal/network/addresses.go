package network

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// addresses hands out the addresses of one subnet, round and round, so that one given back is used again as late as
// possible. It is not safe for concurrent use.
type addresses struct {
	subnet  netip.Prefix
	gateway netip.Addr
	taken   map[netip.Addr]string // the endpoint that has it
	next    uint32
}

func newAddresses(gateway netip.Prefix) *addresses {
	return &addresses{
		subnet: gateway.Masked(), gateway: gateway.Addr(),
		taken: map[netip.Addr]string{}, next: number(gateway.Masked().Addr()) + 1,
	}
}

// take returns a free address.
func (a *addresses) take(owner string) (netip.Addr, error) {
	first, last := number(a.subnet.Addr())+1, number(lastOf(a.subnet))-1
	for range last - first + 1 {
		if a.next > last {
			a.next = first
		}
		c := address(a.next)
		a.next++
		if _, used := a.taken[c]; !used && c != a.gateway {
			a.taken[c] = owner
			return c, nil
		}
	}
	return netip.Addr{}, &fault.Error{
		Code: "no-address", What: "cannot give the container an address",
		Cause: fmt.Sprintf("all %d addresses of %s are in use", len(a.taken), a.subnet), Class: errdefs.ErrResourceExhausted,
	}
}

// claim takes the address that was asked for.
func (a *addresses) claim(want netip.Addr, owner string) error {
	what := fmt.Sprintf("cannot give the container the address %s", want)
	if !want.Is4() || !usable(a.subnet, want) {
		return &fault.Error{
			Code: "address-outside", What: what,
			Cause: fmt.Sprintf("it is no address for a host in the subnet %s", a.subnet), Class: errdefs.ErrInvalidArgument,
		}
	}
	if want == a.gateway {
		return &fault.Error{Code: "address-in-use", What: what, Cause: "it is the gateway's", Class: errdefs.ErrConflict}
	}
	if by, used := a.taken[want]; used && by != owner {
		return &fault.Error{Code: "address-in-use", What: what, Cause: "another container has it", Class: errdefs.ErrConflict}
	}
	a.taken[want] = owner
	return nil
}

// free gives an address back, if it is the owner's.
func (a *addresses) free(addr netip.Addr, owner string) {
	if a.taken[addr] == owner {
		delete(a.taken, addr)
	}
}
