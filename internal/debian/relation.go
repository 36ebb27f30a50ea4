package debian

import "strings"

// Relation is what a package wants of another one: "libc6 (>= 2.36)".
type Relation struct {
	Name string
	// Arch is what stands behind a colon: any, native or an architecture.
	Arch string
	// Op and Version are empty if any version will do.
	Op, Version string
}

// String is the relation as it is written.
func (r Relation) String() string {
	s := r.Name
	if r.Arch != "" {
		s += ":" + r.Arch
	}
	if r.Op != "" {
		s += " (" + r.Op + " " + r.Version + ")"
	}
	return s
}

// parseRelations reads a field such as Depends: groups of alternatives. Restrictions to architectures and build profiles
// are passed over, as binary packages have none.
func parseRelations(field string) [][]Relation {
	var groups [][]Relation
	for group := range strings.SplitSeq(field, ",") {
		var alternatives []Relation
		for one := range strings.SplitSeq(group, "|") {
			if r := parseRelation(one); r.Name != "" {
				alternatives = append(alternatives, r)
			}
		}
		if len(alternatives) > 0 {
			groups = append(groups, alternatives)
		}
	}
	return groups
}

func parseRelation(text string) Relation {
	text = strings.TrimSpace(text)
	end := strings.IndexAny(text, " \t\n([<")
	if end < 0 {
		end = len(text)
	}
	var r Relation
	r.Name, r.Arch, _ = strings.Cut(text[:end], ":")
	_, rest, ok := strings.Cut(text[end:], "(")
	if !ok {
		return r
	}
	rest, _, _ = strings.Cut(rest, ")")
	rest = strings.TrimSpace(rest)
	n := len(rest) - len(strings.TrimLeft(rest, "<>="))
	r.Op, r.Version = rest[:n], strings.TrimSpace(rest[n:])
	if n == 0 {
		r.Op = "="
	}
	return r
}

// Priority of a package.
type Priority uint8

// Priorities, the most important one the highest.
const (
	Optional Priority = iota + 1
	Standard
	Important
	Required
)

// parsePriority reads a Priority field; what is none of ours (extra, nothing) is the lowest.
func parsePriority(s string) Priority {
	switch s {
	case "required":
		return Required
	case "important":
		return Important
	case "standard":
		return Standard
	}
	return Optional
}
