package debian

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Wish is what a system shall consist of.
type Wish struct {
	// Names of packages; what they need comes along.
	Names []string
	// Exclude are packages that nothing may bring along.
	Exclude []string
	// Avoid are packages that are not taken where there is something else.
	Avoid []string
}

// MissingError is a package that is wanted and is not there.
type MissingError struct {
	// Want is what cannot be had.
	Want string
	// By is who wants it; empty if it was asked for by name.
	By string
	// Excluded says that it is there, but must not be taken.
	Excluded bool
}

func (e *MissingError) Error() string {
	s := "no package " + e.Want
	if e.Excluded {
		s = "package " + e.Want + " is excluded"
	}
	if e.By != "" {
		s += ", which " + e.By + " depends on"
	}
	return s
}

// Unwrap gives the class.
func (e *MissingError) Unwrap() error { return errdefs.ErrNotFound }

// ConflictError is a set of packages that cannot be installed together.
type ConflictError struct{ A, B string }

func (e *ConflictError) Error() string { return e.A + " cannot be installed beside " + e.B }

// Unwrap gives the class.
func (e *ConflictError) Unwrap() error { return errdefs.ErrConflict }

// resolver collects packages.
type resolver struct {
	x      *Index
	wish   Wish
	chosen map[string]*Package
	// offers are the chosen packages by the names that they provide.
	offers map[string][]*Package
	queue  []*Package
}

// Resolve finds the packages that a wish comes to, sorted by name: what is named, and by dependencies, the first
// alternative that can be had, if none is chosen already. What is only recommended is left out.
func (x *Index) Resolve(w Wish) ([]*Package, error) {
	r := &resolver{x: x, wish: w, chosen: map[string]*Package{}, offers: map[string][]*Package{}}
	for _, name := range w.Names {
		if slices.Contains(w.Exclude, name) {
			continue
		}
		if err := r.root(name); err != nil {
			return nil, err
		}
	}
	for len(r.queue) > 0 {
		p := r.queue[0]
		r.queue = r.queue[1:]
		for _, group := range slices.Concat(p.PreDepends, p.Depends) {
			if err := r.need(p, group); err != nil {
				return nil, err
			}
		}
	}
	list := make([]*Package, 0, len(r.chosen))
	for _, p := range r.chosen {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Package) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range list {
		if other := r.rival(p); other != nil {
			return nil, &ConflictError{p.String(), other.String()}
		}
	}
	return list, nil
}

// root takes a package that was asked for: a name, or name=version.
func (r *resolver) root(name string) error {
	want := Relation{Name: name}
	if n, v, ok := strings.Cut(name, "="); ok {
		want = Relation{Name: n, Op: "=", Version: v}
	}
	p, err := r.candidate(want)
	if err != nil {
		return err
	}
	if p == nil {
		return &MissingError{Want: name}
	}
	r.take(p)
	return nil
}

func (r *resolver) take(p *Package) {
	if r.chosen[p.Name] != nil {
		return
	}
	r.chosen[p.Name] = p
	r.queue = append(r.queue, p)
	r.offers[p.Name] = append(r.offers[p.Name], p)
	for _, g := range p.Provides {
		r.offers[g[0].Name] = append(r.offers[g[0].Name], p)
	}
}

func (r *resolver) satisfied(want Relation) bool {
	return slices.ContainsFunc(r.offers[want.Name], func(p *Package) bool { return p.satisfies(want) })
}

// need sees that one of the alternatives is chosen.
func (r *resolver) need(by *Package, group []Relation) error {
	if slices.ContainsFunc(group, r.satisfied) {
		return nil
	}
	var fallback *Package
	for _, want := range group {
		p, err := r.candidate(want)
		if err != nil {
			return err
		}
		if p == nil || r.chosen[p.Name] != nil { // of another version
			continue
		}
		if !slices.Contains(r.wish.Avoid, p.Name) && r.rival(p) == nil {
			r.take(p)
			return nil
		}
		if fallback == nil {
			fallback = p
		}
	}
	if fallback != nil {
		r.take(fallback)
		return nil
	}
	texts := make([]string, len(group))
	excluded := false
	for i, want := range group {
		texts[i] = want.String()
		excluded = excluded || slices.Contains(r.wish.Exclude, want.Name)
	}
	return &MissingError{Want: strings.Join(texts, " | "), By: by.String(), Excluded: excluded}
}

// candidate is the package that a relation is best satisfied by: the one of that name, else the most important one that
// provides it.
func (r *resolver) candidate(want Relation) (*Package, error) {
	out := func(p *Package) bool { return slices.Contains(r.wish.Exclude, p.Name) }
	p, err := r.x.best(want.Name, func(p *Package) bool { return !out(p) && satisfies(p.Version, want.Op, want.Version) })
	if p != nil || err != nil {
		return p, err
	}
	all, err := r.x.providers(want.Name)
	if err != nil {
		return nil, err
	}
	var best *Package
	for _, p := range all {
		if !out(p) && p.satisfies(want) && (best == nil || p.Priority > best.Priority) {
			best = p
		}
	}
	return best, nil
}

// rival is a chosen package that cannot be installed beside p.
func (r *resolver) rival(p *Package) *Package {
	for _, g := range slices.Concat(p.Conflicts, p.Breaks) {
		for _, other := range r.offers[g[0].Name] {
			if other.Name != p.Name && other.satisfies(g[0]) {
				return other
			}
		}
	}
	for _, other := range r.chosen {
		if other.Name == p.Name {
			continue
		}
		for _, g := range slices.Concat(other.Conflicts, other.Breaks) {
			if p.satisfies(g[0]) {
				return other
			}
		}
	}
	return nil
}

// Variant is a set of packages that a system begins with, as debootstrap names them.
type Variant string

// Variants.
const (
	Essential Variant = "essential"
	Minbase   Variant = "minbase"
	Buildd    Variant = "buildd"
	// Full is debootstrap's own default: whatever is important.
	Full Variant = "important"
	// Usual is what a Debian installer takes.
	Usual Variant = "standard"
)

// Variants are all of them.
var Variants = []Variant{Essential, Minbase, Buildd, Full, Usual}

// Roots are the packages that a variant begins with.
func (x *Index) Roots(v Variant) ([]string, error) {
	var least Priority
	var more []string
	switch v {
	case Essential:
		return x.selection(func(_ Priority, essential bool) bool { return essential }), nil
	case Minbase:
		least, more = Required, []string{"apt"}
	case Buildd:
		least, more = Required, []string{"apt", "build-essential"}
	case Full:
		least, more = Important, []string{"apt"}
	case Usual:
		least, more = Standard, []string{"apt"}
	default:
		return nil, fmt.Errorf("variant %q: %w", v, errdefs.ErrInvalidArgument)
	}
	names := x.selection(func(p Priority, essential bool) bool { return p >= least || essential })
	for _, name := range more {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
