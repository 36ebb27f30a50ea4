// Package filter is docker's --filter: sets of values by key, as lists and prunes take them.
package filter

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Args holds the values of each key. The zero value matches everything.
type Args map[string][]string

// Parse reads the query parameter in both shapes that clients send: {"key":["value"]} (all versions) and
// {"key":{"value":true}} (since API 1.22). An empty string is no filter.
func Parse(raw string) (Args, error) {
	if raw == "" {
		return nil, nil
	}
	var sets map[string]map[string]bool
	if json.Unmarshal([]byte(raw), &sets) == nil {
		a := Args{}
		for key, set := range sets {
			for value, on := range set {
				if on {
					a[key] = append(a[key], value)
				}
			}
			slices.Sort(a[key])
		}
		return a, nil
	}
	var lists map[string][]string
	if err := json.Unmarshal([]byte(raw), &lists); err != nil {
		return nil, fmt.Errorf("invalid filter %q: %w", raw, errdefs.ErrInvalidArgument)
	}
	return lists, nil
}

// Validate refuses keys other than the known ones, in docker's words.
func (a Args) Validate(known ...string) error {
	for key := range a {
		if !slices.Contains(known, key) {
			return fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// Has says whether the key filters at all.
func (a Args) Has(key string) bool { return len(a[key]) > 0 }

// Exact says whether value is one of the key's, or the key does not filter.
func (a Args) Exact(key, value string) bool {
	return !a.Has(key) || slices.Contains(a[key], value)
}

// Match is Exact, with the key's values also taken as regular expressions, as docker matches names.
func (a Args) Match(key, value string) bool {
	if a.Exact(key, value) {
		return true
	}
	return slices.ContainsFunc(a[key], func(pattern string) bool {
		ok, err := regexp.MatchString(pattern, value)
		return err == nil && ok
	})
}

// Prefix says whether value starts with one of the key's values, or the key does not filter.
func (a Args) Prefix(key, value string) bool {
	return !a.Has(key) || slices.ContainsFunc(a[key], func(p string) bool { return strings.HasPrefix(value, p) })
}

// Labels says whether all "key" or "key=value" under the filter key are found in labels.
func (a Args) Labels(key string, labels map[string]string) bool {
	for _, want := range a[key] {
		k, v, hasValue := strings.Cut(want, "=")
		got, ok := labels[k]
		if !ok || hasValue && got != v {
			return false
		}
	}
	return true
}

// Bool reads a key that is true or false ("dangling"); def is returned when it does not filter.
func (a Args) Bool(key string, def bool) (bool, error) {
	if !a.Has(key) {
		return def, nil
	}
	switch v := a[key][0]; v {
	case "1", "true", "True", "TRUE":
		return true, nil
	case "0", "false", "False", "FALSE":
		return false, nil
	default:
		return false, fmt.Errorf("invalid filter '%s=%s': want true or false: %w", key, v, errdefs.ErrInvalidArgument)
	}
}
