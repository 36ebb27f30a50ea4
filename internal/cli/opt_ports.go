package cli

import (
	"encoding/csv"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// portSpan is a range of ports.
type portSpan struct{ first, last int }

func parseSpan(s string) (portSpan, error) {
	a, b, ok := strings.Cut(s, "-")
	first, err := strconv.ParseUint(a, 10, 16)
	if err != nil {
		return portSpan{}, fmt.Errorf("%q is not a port", a)
	}
	if !ok {
		return portSpan{int(first), int(first)}, nil
	}
	last, err := strconv.ParseUint(b, 10, 16)
	if err != nil {
		return portSpan{}, fmt.Errorf("%q is not a port", b)
	}
	if last < first {
		return portSpan{}, fmt.Errorf("invalid range %s", s)
	}
	return portSpan{int(first), int(last)}, nil
}

func (p portSpan) size() int { return p.last - p.first }

// publishPorts reads -p and --expose into what a container exposes and where it is published.
func publishPorts(publish, expose []string) (network.PortSet, network.PortMap, error) {
	set, bindings := network.PortSet{}, network.PortMap{}
	for _, s := range publish {
		spec, err := shortPort(s)
		if err == nil {
			err = addPublished(spec, set, bindings)
		}
		if err != nil {
			return nil, nil, &hintedError{
				err: fmt.Errorf("cannot publish %q: %w", s, err), code: "bad-flag",
				try: "-p [ADDRESS:][HOSTPORT:]PORT[/udp], as -p 127.0.0.1:8080:80",
			}
		}
	}
	for _, s := range expose {
		if err := addExposed(s, set); err != nil {
			return nil, nil, err
		}
	}
	return set, bindings, nil
}

// shortPort turns target=80,published=8080,protocol=tcp into 8080:80/tcp.
func shortPort(s string) (string, error) {
	if !strings.Contains(s, "=") {
		return s, nil
	}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", s)
	}
	var target, published, protocol string
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		if !ok || k == "" {
			return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", f)
		}
		switch strings.ToLower(k) {
		case "target":
			target = v
		case "published":
			published = v
		case "protocol":
			protocol = v
		case "mode":
			return "", fmt.Errorf("publish mode %q is Swarm's; leave it out", v)
		default:
			return "", fmt.Errorf("invalid field key %s", k)
		}
	}
	if target == "" {
		return "", fmt.Errorf("missing mandatory field \"target\" in %s", s)
	}
	if protocol == "" {
		protocol = "tcp"
	}
	if published == "" {
		return target + "/" + protocol, nil
	}
	return published + ":" + target + "/" + protocol, nil
}

// addPublished reads [[address:]host port:]container port[/protocol].
func addPublished(spec string, set network.PortSet, bindings network.PortMap) error {
	rest, proto, err := cutProtocol(spec)
	if err != nil {
		return err
	}
	addr, host, inside := cutPublished(rest)
	if inside == "" {
		return fmt.Errorf("no port specified: %s<empty>", rest)
	}
	ip, err := parsePublishAddr(addr)
	if err != nil {
		return err
	}
	in, err := parseSpan(inside)
	if err != nil {
		return fmt.Errorf("invalid containerPort: %s", inside)
	}
	var out portSpan
	if host != "" {
		if out, err = parseSpan(host); err != nil {
			return fmt.Errorf("invalid hostPort: %s", host)
		}
		// One container port may be published on any one of a range.
		if in.size() != out.size() && in.size() != 0 {
			return fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", inside, host)
		}
	}
	for i := range in.size() + 1 {
		p, _ := network.PortFrom(uint16(in.first+i), network.IPProtocol(proto))
		hostPort := ""
		switch {
		case host == "":
		case in.size() == 0 && out.size() > 0:
			hostPort = fmt.Sprintf("%d-%d", out.first, out.last)
		default:
			hostPort = strconv.Itoa(out.first + i)
		}
		set[p] = struct{}{}
		bindings[p] = append(bindings[p], network.PortBinding{HostIP: ip, HostPort: hostPort})
	}
	return nil
}

func cutProtocol(spec string) (rest, proto string, err error) {
	rest, proto, ok := strings.Cut(spec, "/")
	if !ok {
		proto = "tcp"
	}
	switch proto = strings.ToLower(proto); proto {
	case "tcp", "udp", "sctp":
		return rest, proto, nil
	}
	return "", "", fmt.Errorf("invalid proto: %s", proto)
}

// cutPublished takes address:host:container apart; the address may hold colons of its own.
func cutPublished(s string) (addr, host, inside string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", s
	}
	s, inside = s[:i], s[i+1:]
	if i = strings.LastIndexByte(s, ':'); i < 0 {
		return "", s, inside
	}
	return s[:i], s[i+1:], inside
}

func parsePublishAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("invalid IP address: %s", s)
	}
	return ip, nil
}

func addExposed(s string, set network.PortSet) error {
	if strings.Contains(s, ":") {
		return fmt.Errorf("invalid port format for --expose: %s", s)
	}
	rest, proto, err := cutProtocol(s)
	if err != nil {
		return fmt.Errorf("invalid range format for --expose: %s, error: %w", s, err)
	}
	span, err := parseSpan(rest)
	if err != nil {
		return fmt.Errorf("invalid range format for --expose: %s, error: %w", s, err)
	}
	for n := span.first; n <= span.last; n++ {
		p, _ := network.PortFrom(uint16(n), network.IPProtocol(proto))
		set[p] = struct{}{}
	}
	return nil
}
