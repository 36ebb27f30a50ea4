package build

import (
	"fmt"
	"sort"
	"strings"
)

// difference is what a step's key has that the last build's had not.
type difference struct {
	name string // of the part
	// words say it: "package.json changed".
	words string
	// input is set if the difference lies in another step's result.
	input int
}

// compare finds what is different. files gives the old and the new list behind a part that is a digest of files.
func compare(old []partRow, now []part, files func(partRow, part) (before, after map[string]string)) []difference {
	var all []difference
	before := map[string]partRow{}
	for _, p := range old {
		before[p.id()] = p
	}
	for _, p := range now {
		o, ok := before[p.row().id()]
		delete(before, p.row().id())
		switch {
		case ok && o.Value == p.value:
		case p.files != nil && ok:
			a, b := files(o, p)
			all = append(all, difference{name: p.name, words: changedFiles(a, b), input: 0})
		case p.input > 0:
			all = append(all, difference{name: p.name, words: p.name + " changed", input: p.input})
		case !ok:
			all = append(all, difference{name: p.name, words: p.name + " is new"})
		default:
			all = append(all, difference{name: p.name, words: p.name + " changed"})
		}
	}
	for _, p := range old { // In order, which a map has not.
		if _, gone := before[p.id()]; gone && p.Input == 0 {
			all = append(all, difference{name: p.Name, words: p.Name + " is gone"})
		}
	}
	return all
}

func (p partRow) id() string { return fmt.Sprintf("%d %s", p.Input, p.Name) }

func (p part) row() partRow { return partRow{Name: p.name, Value: p.value, Input: p.input} }

// changedFiles says in a few words how two trees differ.
func changedFiles(before, after map[string]string) string {
	if before == nil || after == nil {
		return "files it copies changed"
	}
	var changed, added, gone []string
	for name, d := range after {
		switch o, ok := before[name]; {
		case !ok:
			added = append(added, name)
		case o != d:
			changed = append(changed, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			gone = append(gone, name)
		}
	}
	// A directory counts as changed when its mode or owner did; files in it say more.
	for _, c := range []struct {
		names []string
		verb  string
	}{{changed, "changed"}, {added, "was added"}, {gone, "was removed"}} {
		if len(c.names) == 0 {
			continue
		}
		sort.Slice(c.names, func(a, b int) bool {
			if d := strings.Count(c.names[a], "/") - strings.Count(c.names[b], "/"); d != 0 {
				return d < 0
			}
			return c.names[a] < c.names[b]
		})
		others := len(changed) + len(added) + len(gone) - 1
		switch others {
		case 0:
			return c.names[0] + " " + c.verb
		case 1:
			return c.names[0] + " " + c.verb + ", and one more file"
		default:
			return fmt.Sprintf("%s %s, and %d more files", c.names[0], c.verb, others)
		}
	}
	return "files it copies changed"
}

// match pairs the steps of this build with those of the last one: first those with the same words in the same stage, then
// of the rest those at the same place. -1 stands for a step that is new.
func match(rows []stepRow, names []string) []int {
	pairs := make([]int, len(names))
	used := make([]bool, len(rows))
	pair := func(same func(old, now place) bool) {
		for i, name := range names {
			if pairs[i] >= 0 {
				continue
			}
			now := placeOrText(name)
			for k, r := range rows {
				if !used[k] && same(placeOrText(r.Name), now) {
					pairs[i], used[k] = k, true
					break
				}
			}
		}
	}
	for i := range pairs {
		pairs[i] = -1
	}
	pair(func(old, now place) bool { return old.stage == now.stage && old.text == now.text })
	pair(func(old, now place) bool { return now.number > 0 && old.stage == now.stage && old.number == now.number })
	return pairs
}

func placeOrText(name string) place {
	if p, ok := placeOf(name); ok {
		return p
	}
	return place{text: name}
}

// sentence is the summary of a build in one line.
func sentence(steps []Step, cause string) string {
	cached := 0
	for _, s := range steps {
		if s.Cached {
			cached++
		}
	}
	switch {
	case len(steps) == 0:
		return ""
	case cached == len(steps):
		return fmt.Sprintf("all %d steps cached", len(steps))
	}
	line := fmt.Sprintf("%d of %d steps cached", cached, len(steps))
	if cause != "" {
		line += "; " + cause
	}
	return line
}
