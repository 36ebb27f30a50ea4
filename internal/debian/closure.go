package debian

import "slices"

// Set is packages that are installed together.
type Set struct {
	all    []*Package
	offers map[string][]*Package
}

// NewSet makes a set of packages.
func NewSet(all []*Package) *Set {
	s := &Set{all: all, offers: map[string][]*Package{}}
	for _, p := range all {
		s.offers[p.Name] = append(s.offers[p.Name], p)
		for _, g := range p.Provides {
			s.offers[g[0].Name] = append(s.offers[g[0].Name], p)
		}
	}
	return s
}

// Find is the package of the set by which a dependency is satisfied; nil if there is none.
func (s *Set) Find(group []Relation) *Package {
	for _, want := range group {
		for _, p := range s.offers[want.Name] {
			if p.satisfies(want) {
				return p
			}
		}
	}
	return nil
}

// Closure are the packages that fit, and all of the set that they depend on.
func (s *Set) Closure(fit func(*Package) bool) map[*Package]bool {
	in := map[*Package]bool{}
	var queue []*Package
	add := func(p *Package) {
		if p != nil && !in[p] {
			in[p] = true
			queue = append(queue, p)
		}
	}
	for _, p := range s.all {
		if fit(p) {
			add(p)
		}
	}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		for _, group := range slices.Concat(p.PreDepends, p.Depends) {
			add(s.Find(group))
		}
	}
	return in
}
