package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// Group is the pools of one network's subnets of one family. An empty one has no addresses.
type Group []*Pool

// Take returns a free address of the first pool that has one, and that pool.
func (g Group) Take(owner string) (a netip.Addr, p *Pool, err error) {
	for _, p := range g {
		if a, err = p.take(owner); err == nil {
			return a, p, nil
		}
	}
	if err == nil {
		err = errors.New("the network has no subnet of this family")
	}
	return netip.Addr{}, nil, err
}

// Claim takes the address that was asked for from the pool whose subnet holds it.
func (g Group) Claim(want netip.Addr, owner string) (*Pool, error) {
	var subnets []string
	for _, p := range g {
		if p.subnet.Contains(want) {
			return p, p.claim(want, owner)
		}
		subnets = append(subnets, p.subnet.String())
	}
	f := &fault.Error{
		Code: "address-outside", What: fmt.Sprintf("cannot give the container the address %s: it is outside of the network's subnet", want), Try: "an address in the subnet, or none",
		Cause: "it is no address for a host in the subnet " + strings.Join(subnets, ", "), Class: errdefs.ErrInvalidArgument,
	}
	if len(g) == 0 {
		f.What = fmt.Sprintf("cannot give the container the address %s: the network has no addresses of that family", want)
		f.Cause, f.Try = "", "no address, or another --network"
	}
	return nil, f
}

// Free gives an address back.
func (g Group) Free(a netip.Addr, owner string) {
	for _, p := range g {
		if p.subnet.Contains(a) {
			p.release(a, owner)
		}
	}
}
