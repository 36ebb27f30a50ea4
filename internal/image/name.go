package image

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
)

// parseName reads a name as users write them: "debian", "debian:12", "host:5000/a/b@sha256:...". Without tag and digest it
// stands for the tag "latest". A digest makes a tag beside it meaningless, as docker takes it.
func parseName(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, &fault.Error{
			Code: "invalid-reference", What: fmt.Sprintf("invalid reference format: %q", ref), Cause: err.Error(),
			Class: errdefs.ErrInvalidArgument, Err: err,
		}
	}
	if d, ok := named.(reference.Digested); ok {
		return reference.WithDigest(reference.TrimNamed(named), d.Digest())
	}
	return reference.TagNameOnly(named), nil
}

// fullName is the name as the catalog has it.
func fullName(ref string) (string, error) {
	named, err := parseName(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

// familiar shortens a full name to what users write.
func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

// repository is a full name without tag and digest.
func repository(name string) string {
	if base, _, ok := strings.Cut(name, "@"); ok {
		return base
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}

func isDigestName(name string) bool { return strings.Contains(name, "@") }

// tagsAndDigests splits an image's names, in the short form of users. An image that has none has two empty lists, as
// docker's answers have them.
func tagsAndDigests(names []string) (tags, digests []string) {
	tags, digests = []string{}, []string{}
	for _, n := range names {
		if isDigestName(n) {
			digests = append(digests, familiar(n))
		} else {
			tags = append(tags, familiar(n))
		}
	}
	return tags, digests
}

// short is an id as tables show it.
func short(d digest.Digest) string {
	hex := d.Encoded()
	return hex[:min(12, len(hex))]
}
