package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
)

// Hosts is what a container's /etc/hosts is made of.
type Hosts struct {
	// Hostname and Domainname of the container; they follow each of Addrs.
	Hostname, Domainname string
	// Addrs are the container's own addresses, none without a network.
	Addrs []netip.Addr
	// Extra are --add-host values, name:address. The address "host-gateway" stands for Gateway.
	Extra []string
	// Gateway is an address of the host that the container reaches; invalid if there is none.
	Gateway netip.Addr
}

// hostGateway is the word for the host's address in --add-host.
const hostGateway = "host-gateway"

// standardHosts start every hosts file, as docker's.
const standardHosts = "127.0.0.1\tlocalhost\n" +
	"::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\n" +
	"ff00::\tip6-mcastprefix\n" +
	"ff02::1\tip6-allnodes\n" +
	"ff02::2\tip6-allrouters\n"

// RenderHosts is the file's content. An extra host that makes no sense is an errdefs.ErrInvalidArgument.
func RenderHosts(h Hosts) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(standardHosts)
	for _, e := range h.Extra {
		name, addr, err := splitExtraHost(e)
		if err != nil {
			return nil, err
		}
		if addr == hostGateway {
			if !h.Gateway.IsValid() {
				return nil, fmt.Errorf("extra host %q: this network has no gateway: %w", e, errdefs.ErrInvalidArgument)
			}
			addr = h.Gateway.String()
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	if h.Hostname == "" {
		return b.Bytes(), nil
	}
	names := h.Hostname
	if h.Domainname != "" {
		names = h.Hostname + "." + h.Domainname + " " + h.Hostname
	}
	for _, a := range h.Addrs {
		if a.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", a, names)
		}
	}
	return b.Bytes(), nil
}

// splitExtraHost takes name:address apart; the address may be IPv6, in brackets or not. docker's command sends name=address
// as name:address, but other clients may not.
func splitExtraHost(e string) (name, addr string, err error) {
	name, addr, ok := strings.Cut(e, "=")
	if !ok || strings.Contains(name, ":") {
		name, addr, ok = strings.Cut(e, ":")
	}
	if !ok || name == "" || strings.ContainsAny(name, " \t\r\n#") {
		return "", "", fmt.Errorf("bad format for add-host: %q: %w", e, errdefs.ErrInvalidArgument)
	}
	if addr == hostGateway {
		return name, addr, nil
	}
	if len(addr) > 2 && addr[0] == '[' && addr[len(addr)-1] == ']' {
		addr = addr[1 : len(addr)-1]
	}
	if _, err := netip.ParseAddr(addr); err != nil {
		return "", "", fmt.Errorf("invalid IP address in add-host: %q: %w", addr, errdefs.ErrInvalidArgument)
	}
	return name, addr, nil
}
