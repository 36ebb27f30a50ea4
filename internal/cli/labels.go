package cli

import (
	"sort"
	"strings"
)

// labels is the part of a row that shows an object's labels: {{.Label "name"}}.
type labels struct {
	set map[string]string
}

// Label returns one label's value.
func (l labels) Label(name string) string { return l.set[name] }

// joined lists labels as docker's {{.Labels}}.
func (l labels) joined() string { return joinMap(l.set) }

func joinMap(m map[string]string) string {
	list := make([]string, 0, len(m))
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	sort.Strings(list)
	return strings.Join(list, ",")
}
