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
)

// holder says who has the port, and which one is free. The words "port is already allocated" are docker's: programs
// look for them.
func (r *reservations) holder(w wish) (cause, try string) {
	if w.from == 0 {
		return "port is already allocated: no port of the ephemeral range is free", ""
	}
	hp := hostPort{w.addr, w.port.Proto(), w.from}
	by := "another program"
	if name, ok := r.heldBy(hp); ok {
		by = "container " + name
	} else if name, pid, ok := processWith(hp); ok {
		by = fmt.Sprintf("%s (pid %d)", name, pid)
	}
	cause = fmt.Sprintf("port is already allocated: %d is held by %s", w.from, by)
	if w.to > w.from {
		cause = fmt.Sprintf("port is already allocated: none of %d-%d is free; %d is held by %s", w.from, w.to, w.from, by)
	}
	if free, ok := r.nextFree(hp, w.to); ok {
		try = fmt.Sprintf("%d is free", free)
	}
	return cause, try
}

// nextFree looks for a free port after the given one, not far.
func (r *reservations) nextFree(hp hostPort, after uint16) (uint16, bool) {
	for n := int(after) + 1; n < min(int(after)+100, 1<<16); n++ {
		hp.port = uint16(n)
		if sock, err := r.take(hp); err == nil {
			sock.close()
			return hp.port, true
		}
	}
	return 0, false
}

// processWith finds the process whose socket has the port.
func processWith(hp hostPort) (name string, pid int, ok bool) {
	kind := "tcp"
	if hp.proto == network.UDP {
		kind = "udp"
	}
	var inodes []string
	for _, file := range []string{kind, kind + "6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err == nil {
			inodes = append(inodes, socketInodes(b, hp)...)
		}
	}
	if len(inodes) == 0 {
		return "", 0, false
	}
	return processOf(inodes)
}

// socketInodes reads the format of /proc/net/tcp and udp: the sockets that wait for connections or packets on the port,
// on its address or on all.
func socketInodes(b []byte, hp hostPort) []string {
	const listening, unconnected = "0A", "07"
	var inodes []string
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != listening && f[3] != unconnected || f[9] == "0" {
			continue
		}
		addr, port, ok := parseSocketAddress(f[1])
		if ok && port == hp.port && (addr.IsUnspecified() || hp.addr.IsUnspecified() || addr == hp.addr) {
			inodes = append(inodes, "socket:["+f[9]+"]")
		}
	}
	return inodes
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

// processOf finds a process that has one of the sockets open.
func processOf(sockets []string) (name string, pid int, ok bool) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return "", 0, false
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || !hasOpen(filepath.Join("/proc", p.Name(), "fd"), sockets) {
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

func hasOpen(dir string, sockets []string) bool {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		link, err := os.Readlink(filepath.Join(dir, fd.Name()))
		return err == nil && slices.Contains(sockets, link)
	})
}
