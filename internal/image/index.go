package image

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// indexOf reads an index that is stored, or remembers it. It must not be changed.
func (s *Store) indexOf(d ocispec.Descriptor) (*ocispec.Index, error) {
	return s.indexes.Read(d.Digest, func() (*ocispec.Index, error) {
		raw, err := s.content.Bytes(d.Digest, manifestLimit)
		if err != nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
		return parseIndex(raw)
	})
}

// isStatement says whether an index's manifest tells something about another one of it.
func isStatement(d ocispec.Descriptor) bool { return d.Annotations[referenceType] != "" }

// about is the manifest that a statement is about.
func about(d ocispec.Descriptor) digest.Digest { return digest.Digest(d.Annotations[referenceDigest]) }

// statementsOf are the manifests in an entry's index that tell something about the entry's images, whether they are here or
// not.
func (s *Store) statementsOf(e entry) []ocispec.Descriptor {
	here := e.manifests()
	return slices.DeleteFunc(s.children(e), func(d ocispec.Descriptor) bool { return !isStatement(d) || !here.has(about(d)) })
}

// wholeIndex says whether an entry stands for an index of which everything is here.
func (s *Store) wholeIndex(e entry) bool {
	here, list := e.manifests(), s.children(e)
	for _, d := range list {
		if here.has(d.Digest) {
			continue
		}
		if _, ok := s.hasStatement(d); !ok || !isStatement(d) {
			return false
		}
	}
	return len(list) > 0
}

// hasStatement says whether a statement's manifest is here with all that it names.
func (s *Store) hasStatement(d ocispec.Descriptor) (*ocispec.Manifest, bool) {
	raw, err := s.content.Bytes(d.Digest, manifestLimit)
	if err != nil {
		return nil, false
	}
	m, err := parseManifest(raw)
	if err != nil || !s.content.Has(m.Config.Digest) {
		return nil, false
	}
	for _, l := range m.Layers {
		if !s.content.Has(l.Digest) {
			return nil, false
		}
	}
	return m, true
}
