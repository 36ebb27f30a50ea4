package network

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// ResolvConf is the content of a resolv.conf.
type ResolvConf struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

const (
	resolvPath = "/etc/resolv.conf"
	// systemdResolvPath holds the servers that systemd-resolved itself asks, where resolvPath names only its stub.
	systemdResolvPath = "/run/systemd/resolve/resolv.conf"
)

// fallbackServers are docker's, for a host that names no server which a container could reach.
var fallbackServers = []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("8.8.4.4")}

// HostResolv reads the host's resolv.conf for containers: without servers on the host's loopback, which are not the
// container's, and without IPv6 servers, which the default network does not reach. A host that has no other server gets
// docker's fallback, 8.8.8.8 and 8.8.4.4.
func (m *Manager) HostResolv() (ResolvConf, error) {
	c, err := readHostResolv()
	return c.forContainers(), err
}

// readHostResolv reads the file that names the host's real servers.
func readHostResolv() (ResolvConf, error) {
	c, err := readResolv(resolvPath)
	notLocal := func(a netip.Addr) bool { return !a.IsLoopback() }
	if err != nil || len(c.Servers) == 0 || slices.ContainsFunc(c.Servers, notLocal) {
		return c, err
	}
	if real, err := readResolv(systemdResolvPath); err == nil && len(real.Servers) > 0 {
		return real, nil
	}
	return c, nil
}

// readResolv reads a resolv.conf; one that is missing is empty.
func readResolv(path string) (ResolvConf, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return ResolvConf{}, nil
	}
	if err != nil {
		return ResolvConf{}, fmt.Errorf("read the host's name servers: %w", err)
	}
	return parseResolv(b), nil
}

// parseResolv reads what resolv.conf(5) describes. Lines that are not understood are left out; of several search lines
// the last one counts.
func parseResolv(b []byte) ResolvConf {
	var c ResolvConf
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		line := lines.Text()
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil {
				c.Servers = append(c.Servers, a.Unmap())
			}
		case "search", "domain":
			c.Search = words[1:]
		case "options":
			c.Options = append(c.Options, words[1:]...)
		}
	}
	return c
}

// hostReachable says whether a container on an IPv4 network reaches one of the host's resolvers.
func hostReachable() bool {
	c, err := readHostResolv()
	return err == nil && slices.ContainsFunc(c.Servers, func(a netip.Addr) bool { return a.Is4() && !a.IsLoopback() })
}

// forContainers leaves what a container on an IPv4 network can use.
func (c ResolvConf) forContainers() ResolvConf {
	var servers []netip.Addr
	for _, s := range c.Servers {
		if s.Is4() && !s.IsLoopback() {
			servers = append(servers, s)
		}
	}
	if len(servers) == 0 {
		servers = slices.Clone(fallbackServers)
	}
	return ResolvConf{Servers: servers, Search: c.Search, Options: c.Options}
}

// RenderResolv is the file's content.
func RenderResolv(c ResolvConf) []byte {
	var b bytes.Buffer
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(c.Search) > 0 && !slices.Equal(c.Search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.Search, " "))
	}
	if len(c.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.Options, " "))
	}
	return b.Bytes()
}
