package build

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// parseFilters reads BuildKit's filters for records. Without any, everything matches.
func parseFilters(filters []string) (func(*Record) bool, error) {
	var any [][]func(*Record) bool
	for _, f := range filters {
		var all []func(*Record) bool
		for _, term := range strings.Split(f, ",") {
			match, err := parseTerm(strings.TrimSpace(term))
			if err != nil {
				return nil, fmt.Errorf("filter %q: %w: %w", f, err, errdefs.ErrInvalidArgument)
			}
			all = append(all, match)
		}
		any = append(any, all)
	}
	return func(r *Record) bool {
		return len(any) == 0 || slices.ContainsFunc(any, func(all []func(*Record) bool) bool {
			return !slices.ContainsFunc(all, func(match func(*Record) bool) bool { return !match(r) })
		})
	}, nil
}

var fields = map[string]func(*Record) []string{
	"id":          func(r *Record) []string { return []string{r.ID} },
	"type":        func(r *Record) []string { return []string{r.Type} },
	"parents":     func(r *Record) []string { return r.Parents },
	"parent":      func(r *Record) []string { return r.Parents },
	"description": func(r *Record) []string { return []string{r.Description} },
	"inuse":       func(r *Record) []string { return []string{strconv.FormatBool(r.InUse)} },
	"mutable":     func(r *Record) []string { return []string{strconv.FormatBool(r.Mutable)} },
	"immutable":   func(r *Record) []string { return []string{strconv.FormatBool(!r.Mutable)} },
	"shared":      func(r *Record) []string { return []string{strconv.FormatBool(r.Shared)} },
	"private":     func(r *Record) []string { return []string{strconv.FormatBool(!r.Shared)} },
}

func parseTerm(term string) (func(*Record) bool, error) {
	i := strings.IndexAny(term, "=!~")
	name, op, value := term, "", "true"
	if i >= 0 {
		name = term[:i]
		for _, o := range []string{"==", "!=", "~=", "="} {
			if rest, ok := strings.CutPrefix(term[i:], o); ok {
				op, value = o, rest
				break
			}
		}
		if op == "" {
			return nil, fmt.Errorf("unknown operator in %q; there are ==, != and ~=", term)
		}
	}
	get, ok := fields[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("unknown field %q", name)
	}
	if unquoted, err := strconv.Unquote(value); err == nil {
		value = unquoted
	}
	switch op {
	case "~=":
		re, err := regexp.Compile(value)
		if err != nil {
			return nil, err
		}
		return func(r *Record) bool { return slices.ContainsFunc(get(r), re.MatchString) }, nil
	case "!=":
		return func(r *Record) bool { return !slices.Contains(get(r), value) }, nil
	}
	return func(r *Record) bool { return slices.Contains(get(r), value) }, nil
}
