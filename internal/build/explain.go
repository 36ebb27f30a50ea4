package build

import (
	"fmt"
)

// difference is what a step's key has that the last build's had not.
type difference struct {
	name string // of the part
	// words say it: "package.json changed".
	words string
	// input is set if the difference lies in another step's result.
	input int
}

// compare finds what is different. files says how the list behind a part that is a digest of files has changed.
func compare(old []partRow, now []part, files func(partRow, part) string) []difference {
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
			all = append(all, difference{name: p.name, words: files(o, p), input: 0})
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
