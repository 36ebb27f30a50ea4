package image

import (
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
)

// already finds what all the names stand for, if that is these images with attestations of the kinds that they are to have.
func (c *composition) already(o *BuildOptions) (entry, bool) {
	names, err := buildNames(o.Names)
	if err != nil || !o.KeepStatements || len(names) == 0 {
		return entry{}, false
	}
	snap := c.s.catalog.snapshot()
	var first entry
	for n, name := range names {
		i, ok := snap.byName[name.String()]
		if !ok || n > 0 && !snap.entries[i].same(first) {
			return entry{}, false
		}
		first = snap.entries[i]
	}
	if len(first.others)+1 != len(o.Images) || first.index.Digest == "" {
		return entry{}, false
	}
	index, err := c.s.indexOf(first.index)
	if err != nil || !maps.Equal(index.Annotations, o.IndexAnnotations) {
		return entry{}, false
	}
	for i, d := range c.built.Manifests {
		has := slices.ContainsFunc(first.parts(), func(p part) bool { return p.desc.Digest == d.Digest })
		if !has || !c.s.attested(first, d.Digest, o.Images[i].Attestations) {
			return entry{}, false
		}
		for _, m := range index.Manifests {
			if m.Digest == d.Digest && !maps.Equal(m.Annotations, o.Images[i].DescriptorAnnotations) {
				return entry{}, false
			}
		}
	}
	return first, true
}

// attested says whether there are statements about a manifest of the same kinds.
func (s *Store) attested(e entry, d digest.Digest, want []Attestation) bool {
	var has []string
	for _, st := range s.statementsOf(e) {
		m, ok := s.hasStatement(st)
		if about(st) != d || !ok {
			continue
		}
		for _, l := range m.Layers {
			has = append(has, l.Annotations[inTotoPredicate])
		}
	}
	return len(want) > 0 && slices.EqualFunc(has, want, func(a string, b Attestation) bool { return a == b.PredicateType })
}
