package cli

import (
	"fmt"
	"strings"
)

// imageName is an image's name taken apart. The daemon checks each part; here it is only divided, because the library that
// does both costs a command a millisecond before it begins.
type imageName struct {
	domain, path, tag, digest string
}

const (
	defaultDomain = "docker.io"
	officialPath  = "library/"
)

// parseImage reads [domain/]path[:tag][@digest].
func parseImage(s string) (imageName, error) {
	bad := &hintedError{err: fmt.Errorf("invalid reference format: %q", s), try: "[HOST[:PORT]/]NAME[:TAG]", code: "invalid-reference"}
	var n imageName
	rest, digest, hasDigest := strings.Cut(s, "@")
	if n.digest = digest; hasDigest && !strings.Contains(digest, ":") {
		return n, bad
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		if rest, n.tag = rest[:i], rest[i+1:]; n.tag == "" {
			return n, bad
		}
	}
	n.domain, n.path = defaultDomain, rest
	if first, more, ok := strings.Cut(rest, "/"); ok && isDomain(first) {
		n.domain, n.path = first, more
	}
	if n.domain == "index.docker.io" {
		n.domain = defaultDomain
	}
	if n.domain == defaultDomain && !strings.Contains(n.path, "/") {
		n.path = officialPath + n.path
	}
	if n.path == "" || n.path == officialPath || strings.ContainsAny(s, " \t\r\n?#%\\") || strings.Contains(n.path, ":") {
		return n, bad
	}
	if n.path != strings.ToLower(n.path) {
		return n, &hintedError{
			err: fmt.Errorf("invalid reference format: repository name (%s) must be lowercase", n.path), try: strings.ToLower(s), code: "invalid-reference",
		}
	}
	return n, nil
}

// isDomain tells a registry from the first part of a path.
func isDomain(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost" || strings.ToLower(s) != s
}

// nameOnly tells that neither tag nor digest is given.
func (n imageName) nameOnly() bool { return n.tag == "" && n.digest == "" }

// tagged adds the usual tag to a bare name.
func (n imageName) tagged() imageName {
	if n.nameOnly() {
		n.tag = "latest"
	}
	return n
}

// familiar is the name without tag and digest as people write it.
func (n imageName) familiar() string {
	if n.domain != defaultDomain {
		return n.domain + "/" + n.path
	}
	return strings.TrimPrefix(n.path, officialPath)
}

// String is the whole name.
func (n imageName) String() string {
	s := n.domain + "/" + n.path
	if n.tag != "" {
		s += ":" + n.tag
	}
	if n.digest != "" {
		s += "@" + n.digest
	}
	return s
}
