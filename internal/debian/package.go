package debian

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
)

// Package is a package as a list describes it.
type Package struct {
	Name, Version, Arch string
	// MultiArch is same, foreign, allowed or empty.
	MultiArch string
	Priority  Priority
	Essential bool
	// PriorityName and Section are as they are written. An archive may have other ones than the package's own control file,
	// and the archive's count.
	PriorityName, Section string
	// Filename is the path below the mirror; File what must be found there.
	Filename string
	File     File
	// List is the number of the list that describes it.
	List int

	PreDepends, Depends, Provides, Conflicts, Breaks, Replaces [][]Relation
}

// String is the package with its version.
func (p *Package) String() string { return p.Name + " (" + p.Version + ")" }

// parsePackage reads a paragraph of a list.
func parsePackage(raw []byte) (*Package, error) {
	f, err := ParseParagraph(raw)
	if err != nil {
		return nil, err
	}
	p := NewPackage(f)
	if !goodName(p.Name) || !goodVersion(p.Version) || !GoodArch(p.Arch) {
		return nil, fmt.Errorf("list of packages: package %q, version %q, architecture %q: %w", p.Name, p.Version, p.Arch, errdefs.ErrInvalidArgument)
	}
	p.Filename = path.Clean(f.get("Filename"))
	if !CleanPath(p.Filename) {
		return nil, fmt.Errorf("list of packages: %s: path %q: %w", p.Name, f.get("Filename"), errdefs.ErrInvalidArgument)
	}
	if p.File, err = parseFile(f.get("Size"), f.get("SHA256")); err != nil {
		return nil, fmt.Errorf("list of packages: %s: %w", p.Name, err)
	}
	return p, nil
}

// NewPackage is what a package's own control file says of it.
func NewPackage(f Paragraph) *Package {
	return &Package{
		Name: f.get("Package"), Version: f.get("Version"), Arch: f.get("Architecture"), MultiArch: f.get("Multi-Arch"),
		Priority: parsePriority(f.get("Priority")), PriorityName: f.get("Priority"), Section: f.get("Section"),
		Essential:  f.get("Essential") == "yes",
		PreDepends: parseRelations(f.get("Pre-Depends")), Depends: parseRelations(f.get("Depends")),
		Provides: parseRelations(f.get("Provides")), Conflicts: parseRelations(f.get("Conflicts")),
		Breaks: parseRelations(f.get("Breaks")), Replaces: parseRelations(f.get("Replaces")),
	}
}

// goodName keeps names from being paths or options: they become files' names.
func goodName(name string) bool {
	return name != "" && len(name) <= 200 && name[0] != '.' && name[0] != '-' && name[0] != '+' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

func goodVersion(v string) bool {
	return v != "" && len(v) <= 500 &&
		strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.:~") == "" && v[0] != '-'
}

// GoodArch says whether a text can be an architecture's name.
func GoodArch(a string) bool {
	return a != "" && len(a) <= 50 && a[0] != '-' && strings.Trim(a, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// provides says whether the package has, or provides, the name.
func (p *Package) provides(name string) bool {
	if p.Name == name {
		return true
	}
	for _, g := range p.Provides {
		if g[0].Name == name {
			return true
		}
	}
	return false
}

// satisfies says whether the package is what a relation wants, by its name or by one that it provides.
func (p *Package) satisfies(r Relation) bool {
	if p.Name == r.Name && satisfies(p.Version, r.Op, r.Version) {
		return true
	}
	for _, g := range p.Provides {
		if g[0].Name == r.Name && (r.Op == "" || g[0].Op == "=" && satisfies(g[0].Version, r.Op, r.Version)) {
			return true
		}
	}
	return false
}

// Overrides says whether the package may have files that the other one has, too.
func (p *Package) Overrides(other *Package) bool {
	for _, g := range p.Replaces {
		if other.satisfies(g[0]) {
			return true
		}
	}
	return false
}
