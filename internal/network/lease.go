package network

import (
	"net/netip"
	"time"

	"github.com/kistdev/kist/internal/network/ipam"
)

// group is the network's pools of a family.
func (l *lan) group(six bool) ipam.Group {
	if six {
		return l.v6
	}
	return l.v4
}

// lease takes the wanted address, or any if it is invalid, and tells the gateway. What no container has is had in the end:
// an address in the pool of namespaces is taken from there, one kept for a container that is gone is kept no longer, and
// one that its last holder's veth pair still has is waited for, as when a container with a static address restarts.
func (m *Manager) lease(l *lan, six bool, want netip.Addr, owner string) (netip.Prefix, netip.Addr, error) {
	for deadline := time.Now().Add(patience + time.Second); ; time.Sleep(sweepEvery / 10) {
		m.mu.Lock()
		addr, via, err := l.tryLease(six, want, owner)
		obtainable := err != nil && l.obtainable(six, want)
		m.mu.Unlock()
		if err == nil || !obtainable || time.Now().After(deadline) {
			return addr, via, err
		}
		m.vacate(l, six, want)
	}
}

// tryLease takes an address if it is free now. m.mu is held.
func (l *lan) tryLease(six bool, want netip.Addr, owner string) (netip.Prefix, netip.Addr, error) {
	var p *ipam.Pool
	var err error
	if want.IsValid() {
		p, err = l.group(six).Claim(want, owner)
	} else {
		want, p, err = l.group(six).Take(owner)
	}
	if err != nil {
		return netip.Prefix{}, netip.Addr{}, err
	}
	via := netip.Addr{}
	if l.hasGateway(six) {
		via = p.Gateway()
	}
	return netip.PrefixFrom(want, p.Subnet().Bits()), via, nil
}

// obtainable says whether an address that is taken, or any if it is invalid, is taken by something other than a container.
// m.mu is held.
func (l *lan) obtainable(six bool, want netip.Addr) bool {
	containers := map[string]bool{}
	for _, e := range l.ends {
		containers[e.id] = true
	}
	found := false
	for _, p := range l.group(six) {
		p.Taken(func(a netip.Addr, owner string) bool {
			found = (a == want || !want.IsValid()) && !containers[owner]
			return !found
		})
		if found {
			break
		}
	}
	return found
}

// vacate makes the address free, or any if it is invalid, if only a namespace in the pool has it, or nobody.
func (m *Manager) vacate(l *lan, six bool, want netip.Addr) {
	m.mu.Lock()
	for id, k := range l.kept {
		if k.veth == "" && (!want.IsValid() || k.of(six) == want) {
			l.release(id, k)
			m.mu.Unlock()
			return
		}
	}
	wired := m.wired
	m.mu.Unlock()
	if wired == nil || l != m.lan {
		return
	}
	p := wired.takeIf(func(p *parked) bool { return p.addr.Addr() == want || !want.IsValid() })
	if p == nil {
		return
	}
	p.ns.Close()
	if m.rt.remove(p.veth) == nil {
		m.giveBack(&p.endpoint)
	} else {
		m.sweep.add(&p.endpoint)
	}
}

func (k *keepsake) of(six bool) netip.Addr {
	if six {
		return k.v6
	}
	return k.v4
}

// keptOwner is who has the addresses kept for a container, in the pools' books.
func keptOwner(containerID string) string { return "kept for " + containerID }

// giveBack frees what an endpoint had whose veth is gone.
func (m *Manager) giveBack(e *endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.port != nil {
		e.lan.link.rise(e.port)
		e.port = nil
	}
	for id, k := range e.lan.kept {
		if k.veth == e.veth && e.veth != "" {
			if k.veth = ""; k.until.IsZero() {
				e.lan.release(id, k)
			}
			return
		}
	}
	e.lan.free(e)
}

// free gives the endpoint's addresses back. Manager.mu is held.
func (l *lan) free(e *endpoint) {
	l.v4.Free(e.addr.Addr(), e.id)
	l.v6.Free(e.addr6.Addr(), e.id)
}

// keep reserves the addresses of a container's endpoint for its return, and lets those go that were kept long enough.
// Manager.mu is held.
func (l *lan) keep(containerID string, e *endpoint) {
	now := time.Now()
	for id, k := range l.kept {
		if k.veth == "" && now.After(k.until) {
			l.release(id, k)
		}
	}
	k := &keepsake{veth: e.veth, until: now.Add(keepFor)}
	k.v4, k.v6 = e.addr.Addr(), e.addr6.Addr()
	l.free(e)
	for _, a := range []netip.Addr{k.v4, k.v6} {
		if a.IsValid() {
			_, _ = l.group(a.Is6()).Claim(a, keptOwner(containerID)) // it has just become free
		}
	}
	l.kept[containerID] = k
}

// release frees what was kept for the container. Manager.mu is held.
func (l *lan) release(containerID string, k *keepsake) {
	for _, a := range []netip.Addr{k.v4, k.v6} {
		if a.IsValid() {
			l.group(a.Is6()).Free(a, keptOwner(containerID))
		}
	}
	delete(l.kept, containerID)
}

// reclaim returns the addresses that were kept for the container, free to be taken by it at once: the veth pair that may
// still have them is removed.
func (m *Manager) reclaim(l *lan, containerID string) (v4, v6 netip.Addr) {
	m.mu.Lock()
	k := l.kept[containerID]
	veth := ""
	if k != nil {
		veth = k.veth
	}
	m.mu.Unlock()
	if k == nil {
		return v4, v6
	}
	if veth != "" && m.rt.remove(veth) != nil {
		return v4, v6 // somebody else's now; the container gets others
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.kept[containerID] == k {
		l.release(containerID, k)
		return k.v4, k.v6
	}
	return v4, v6
}

// Forget lets go of what is kept for the return of a container that has left, addresses and names: it is removed, or
// somebody has stopped it.
func (m *Manager) Forget(containerID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.attached[containerID] != nil { // it is back
		return
	}
	if m.names != nil {
		m.names.Forget(containerID)
	}
	for _, l := range m.lans {
		if k := l.kept[containerID]; k != nil {
			if k.until = (time.Time{}); k.veth == "" {
				l.release(containerID, k)
			}
		}
	}
}
