package engine

import (
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// withTag is what a user wrote with the tag that is meant when none is written.
func withTag(ref string) string {
	if _, err := digest.Parse(ref); err == nil {
		return ref
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}
