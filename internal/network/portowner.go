package network

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network/firewall"
)

// holder says who has the port, and which one is free. The words "port is already allocated" are docker's: programs
// look for them.
func (r *reservations) holder(w wish, at firewall.Ports) (cause, try string) {
	if w.from == 0 {
		return "port is already allocated: no port of the ephemeral range is free", ""
	}
	last := w.to
	if w.more > 0 {
		last = w.from + w.more
		at.To = last
	}
	by, port := "another program", w.from
	if h := r.holds(at); h != nil {
		by, port = "container "+h.owner, max(h.ports.From, at.From)
	} else if socks := socketsOn(at); len(socks) > 0 {
		port = socks[0].port
		if name, pid, ok := processOf(socks); ok {
			by = fmt.Sprintf("%s (pid %d)", name, pid)
		}
	}
	switch {
	case w.more > 0:
		return fmt.Sprintf("port is already allocated: of %d-%d, %d is held by %s", w.from, last, port, by), ""
	case last > w.from:
		cause = fmt.Sprintf("port is already allocated: none of %d-%d is free; %d is held by %s", w.from, last, port, by)
	default:
		cause = fmt.Sprintf("port is already allocated: %d is held by %s", port, by)
	}
	if free, ok := r.nextFree(at, last); ok {
		try = fmt.Sprintf("%d is free", free)
	}
	return cause, try
}

// nextFree looks for a free port after the given one, not far.
func (r *reservations) nextFree(p firewall.Ports, after uint16) (uint16, bool) {
	for n := int(after) + 1; n < min(int(after)+100, 1<<16); n++ {
		p = firewall.One(p.Addr, p.Proto, uint16(n))
		if sock, err := r.take(p); err == nil {
			sock.close()
			return p.From, true
		}
	}
	return 0, false
}

// socket is one of the host's that has a port.
type socket struct {
	inode string
	port  uint16
}

// socketsOn finds the sockets that wait for connections or packets on the ports.
func socketsOn(p firewall.Ports) []socket {
	kind := "tcp"
	if p.Proto == network.UDP {
		kind = "udp"
	}
	var list []socket
	for _, file := range []string{kind, kind + "6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err == nil {
			list = append(list, readSockets(b, p)...)
		}
	}
	return list
}

// readSockets reads the format of /proc/net/tcp and udp: the sockets that wait on one of the ports, on its address or on
// all.
func readSockets(b []byte, p firewall.Ports) []socket {
	const listening, unconnected = "0A", "07"
	var list []socket
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != listening && f[3] != unconnected || f[9] == "0" {
			continue
		}
		addr, port, ok := parseSocketAddress(f[1])
		// A socket on [::] may have the IPv4 port, too; it does not say.
		if ok && p.From <= port && port <= p.To && (addr.IsUnspecified() && (addr.Is6() || p.Addr.Is4()) || meet(addr, p.Addr)) {
			list = append(list, socket{f[9], port})
		}
	}
	return list
}

// parseSocketAddress reads 0100007F:1F90: words in the machine's byte order, which is little on all we run on.
func parseSocketAddress(s string) (netip.Addr, uint16, bool) {
	addr, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.Addr{}, 0, false
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), uint16(n), ok
}

// PortHolder finds the process that listens on a TCP port of the host.
func PortHolder(at netip.AddrPort) (name string, pid int, ok bool) {
	return processOf(socketsOn(firewall.One(at.Addr(), network.TCP, at.Port())))
}

// SocketHolder finds the process that listens on a unix socket.
func SocketHolder(path string) (name string, pid int, ok bool) {
	b, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return "", 0, false
	}
	var list []socket
	for l := range strings.Lines(string(b)) {
		// Num RefCount Protocol Flags Type St Inode Path; it is called as it was when it was bound.
		if f := strings.Fields(l); len(f) == 8 && (f[7] == path || f[7] == path+".new") {
			list = append(list, socket{inode: f[6]})
		}
	}
	return processOf(list)
}

// processOf finds a process that has one of the sockets open.
func processOf(sockets []socket) (name string, pid int, ok bool) {
	links := make([]string, len(sockets))
	for i, s := range sockets {
		links[i] = "socket:[" + s.inode + "]"
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return "", 0, false
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || !hasOpen(filepath.Join("/proc", p.Name(), "fd"), links) {
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
		if err != nil {
			continue
		}
		return string(bytes.TrimSpace(comm)), pid, true
	}
	return "", 0, false
}

func hasOpen(dir string, links []string) bool {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		link, err := os.Readlink(filepath.Join(dir, fd.Name()))
		return err == nil && slices.Contains(links, link)
	})
}
