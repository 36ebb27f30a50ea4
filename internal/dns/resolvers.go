package dns

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How often the host's files are looked at, while there are questions.
const lookEvery = time.Second

// hostResolvers are the resolvers that the host itself asks, by its resolv.conf. One on the host's loopback is asked as
// well, which containers could not; those that it asks in turn (systemd-resolved's) come after it, for when it is down.
type hostResolvers struct {
	path, real string
	changed    func()

	mu      sync.Mutex // guards what follows
	looked  time.Time
	stamps  [2]stamp
	servers []netip.AddrPort
}

// stamp tells one content of a file from another.
type stamp struct {
	inode, device uint64
	size          int64
	modified      syscall.Timespec
}

func stampOf(path string) stamp {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return stamp{}
	}
	return stamp{st.Ino, uint64(st.Dev), st.Size, st.Mtim} //nolint:unconvert // its type differs between architectures
}

// list returns the resolvers as they are now.
func (h *hostResolvers) list(now time.Time) []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.looked.IsZero() && now.Sub(h.looked) < lookEvery {
		return h.servers
	}
	first := h.looked.IsZero()
	h.looked = now
	stamps := [2]stamp{stampOf(h.path), stampOf(h.real)}
	if !first && stamps == h.stamps {
		return h.servers
	}
	h.stamps = stamps
	servers := h.read()
	if !slices.Equal(servers, h.servers) {
		h.servers = servers
		h.changed()
	}
	return h.servers
}

func (h *hostResolvers) read() []netip.AddrPort {
	servers := nameservers(h.path)
	if len(servers) == 0 { // resolv.conf(5): then it is the one on this host
		servers = []netip.AddrPort{netip.AddrPortFrom(loopback4, port)}
	}
	if !slices.ContainsFunc(servers, func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() }) {
		servers = append(servers, nameservers(h.real)...)
	}
	return servers
}

// nameservers reads the servers of a resolv.conf; one that cannot be read has none.
func nameservers(path string) []netip.AddrPort {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var list []netip.AddrPort
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil && len(list) < maxResolvers {
			list = append(list, netip.AddrPortFrom(a.Unmap(), port))
		}
	}
	return list
}

// maxResolvers is more than anybody has.
const maxResolvers = 8

// health remembers which resolvers have failed lately: they are asked last.
type health struct {
	mu     sync.Mutex // guards failed
	failed map[netip.AddrPort]time.Time
}

// grudge is how long a resolver that failed comes after the others.
const grudge = 10 * time.Second

func (h *health) note(server netip.AddrPort, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.failed, server)
		return
	}
	if h.failed == nil || len(h.failed) > 1024 {
		h.failed = map[netip.AddrPort]time.Time{}
	}
	h.failed[server] = time.Now()
}

// order returns the servers, those that failed lately last.
func (h *health) order(servers []netip.AddrPort) []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.failed) == 0 {
		return servers
	}
	var good, bad []netip.AddrPort
	for _, s := range servers {
		if at, ok := h.failed[s]; ok && time.Since(at) < grudge {
			bad = append(bad, s)
		} else {
			good = append(good, s)
		}
	}
	return append(good, bad...)
}
