package cli

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// checkLink reads container[:alias].
func checkLink(s string) (string, error) {
	name, alias, ok := strings.Cut(s, ":")
	if name == "" || ok && (alias == "" || strings.Contains(alias, ":")) {
		return "", fmt.Errorf("bad format for links: %s", s)
	}
	return s, nil
}

// checkHost reads name:address and name=address; both become the first.
func checkHost(s string) (string, error) {
	i := strings.IndexAny(s, "=")
	if i < 0 {
		i = strings.IndexByte(s, ':')
	}
	if i <= 0 {
		return "", fmt.Errorf("bad format for add-host: %q", s)
	}
	name, addr := s[:i], s[i+1:]
	if addr != "host-gateway" {
		bare := strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
		if _, err := netip.ParseAddr(bare); err != nil {
			return "", fmt.Errorf("invalid IP address in add-host: %q", addr)
		}
		addr = bare
	}
	return name + ":" + addr, nil
}

func checkAddr(s string) (string, error) {
	if _, err := netip.ParseAddr(strings.TrimSpace(s)); err != nil {
		return "", fmt.Errorf("ip address is not correctly formatted: %s", s)
	}
	return strings.TrimSpace(s), nil
}

// checkDomain checks a search domain; "." clears the list.
func checkDomain(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "." {
		return s, nil
	}
	const part = `[a-zA-Z0-9](?:[a-zA-Z0-9_-]*[a-zA-Z0-9])?`
	if len(s) > 255 || !regexp.MustCompile(`^(?:`+part+`\.)*`+part+`\.?$`).MatchString(s) || !strings.ContainsFunc(s, letter) {
		return "", fmt.Errorf("invalid domain: %s", s)
	}
	return s, nil
}

func letter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

func checkAttach(s string) (string, error) {
	s = strings.ToLower(s)
	switch s {
	case "stdin", "stdout", "stderr":
		return s, nil
	}
	return "", fmt.Errorf("valid streams are STDIN, STDOUT and STDERR, and %q is none", s)
}

// parseAddrs reads addresses that checkAddr let pass.
func parseAddrs(list []string) ([]netip.Addr, error) {
	out := []netip.Addr{}
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}
