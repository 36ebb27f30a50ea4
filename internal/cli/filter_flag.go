package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// formatHelp describes every --format flag.
const formatHelp = "How to print: table, 'table TEMPLATE', json, or a Go template"

// filterFlag collects --filter key=value.
type filterFlag struct {
	values map[string]map[string]bool
}

// Set adds a filter.
func (f *filterFlag) Set(s string) error {
	k, v, ok := strings.Cut(s, "=")
	k, v = strings.ToLower(strings.TrimSpace(k)), strings.TrimSpace(v)
	if !ok || k == "" {
		return fmt.Errorf("invalid filter '%s': a filter is name=value", s)
	}
	if f.values == nil {
		f.values = map[string]map[string]bool{}
	}
	if f.values[k] == nil {
		f.values[k] = map[string]bool{}
	}
	f.values[k][v] = true
	return nil
}

// String is empty: there is no default.
func (f *filterFlag) String() string { return "" }

// Type names the value in help.
func (f *filterFlag) Type() string { return "filter" }

// addTo puts the filters into a query.
func (f *filterFlag) addTo(q url.Values) {
	if len(f.values) == 0 {
		return
	}
	b, err := json.Marshal(f.values)
	if err != nil {
		return // maps of strings and truths always encode
	}
	q.Set("filters", string(b))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// merge adds filters in the form of addTo.
func (f *filterFlag) merge(encoded string) error {
	if encoded == "" {
		return nil
	}
	return json.Unmarshal([]byte(encoded), &f.values)
}
