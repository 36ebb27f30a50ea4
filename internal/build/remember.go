package build

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/opencontainers/go-digest"
)

// noteLocal and noteFrontend gather what tells this Dockerfile's builds from those of others.
func (j *job) noteLocal(name string, dir *LocalDir) {
	j.note(fmt.Sprintf("local %s %s", name, dir.Key))
}

func (j *job) noteFrontend(name string, attrs map[string]string) {
	j.mu.Lock()
	j.frontend, j.attrs = name, maps.Clone(attrs) // The frontend goes on to change them.
	j.mu.Unlock()
	for _, k := range []string{"context", "filename", "target", "platform"} {
		if v := attrs[k]; v != "" {
			j.note(k + " " + v)
		}
	}
}

// noteFrontendImage notes what a frontend was made of: it is among what a result comes from.
func (j *job) noteFrontendImage(v *vertex) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.frontends = append(j.frontends, v)
}

func (j *job) note(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Contains(j.notes, text) {
		j.notes = append(j.notes, text)
	}
}

// historyKey names the history of this Dockerfile's builds.
func (j *job) historyKey() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	notes := slices.Clone(j.notes)
	sort.Strings(notes)
	return digest.FromString(strings.Join(notes, "\n")).String()
}

// remember explains the steps of the build, and keeps their parts for the explanation of the next one.
func (j *job) remember(whole bool) Summary {
	steps := j.finished()
	if len(steps) == 0 || j.req.Internal {
		return Summary{}
	}
	m := memory{j: j, whole: whole, key: j.historyKey(), lists: map[string][]byte{}}
	m.old = j.b.cache.last(m.key)
	return m.run(steps)
}

// finished are the steps that have come to their end, in the order of the Dockerfile.
func (j *job) finished() []*step {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*step
	for _, s := range j.order {
		select {
		case <-s.done:
			if s.err == nil && !s.v.internal() {
				all = append(all, s)
			}
		default:
		}
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].v.line() < all[b].v.line() })
	return all
}

// memory compares one build with the last one.
type memory struct {
	j      *job
	whole  bool // the build came to its end
	key    string
	old    *history
	pairs  map[*step]*stepRow // the same step in the last build
	used   map[*stepRow]bool
	lists  map[string][]byte
	causes map[*step]string
}

func (m *memory) run(steps []*step) Summary {
	var sum Summary
	next := &history{}
	m.causes = map[*step]string{}
	m.pair(steps)
	changed, cause := m.old == nil, ""
	for _, s := range steps {
		if s.key != "" {
			row, same := m.row(s)
			changed = changed || !same
			next.Steps = append(next.Steps, row)
		}
		if s.ran && m.causes[s] == "" {
			m.causes[s] = m.why(s, nil)
		}
		at, ok := placeOf(s.v.name)
		if !ok {
			continue
		}
		if s.ran && cause == "" && s.reason != ranForInput {
			cause = at.words() + " ran because " + m.causes[s]
		}
		sum.add(s, at, m.causes[s])
	}
	for _, s := range sum.Explained {
		if s.Cached {
			sum.Cached++
		}
	}
	sum.Steps = len(sum.Explained)
	sum.Line = sentence(sum.Explained, cause)
	if changed {
		next.Steps = append(next.Steps, m.rest()...)
		m.j.b.cache.keep(m.key, next, m.lists)
	}
	return sum
}

// add tells of a step. Several vertices may be one: what ADD downloads, and the copy of it.
func (sum *Summary) add(s *step, at place, reason string) {
	one := Step{Name: s.v.name, Cached: s.cached, Reason: reason, Milliseconds: s.took.Milliseconds()}
	for i := range sum.Explained {
		other := &sum.Explained[i]
		if p, _ := placeOf(other.Name); p.stage == at.stage && p.number == at.number {
			other.Cached = other.Cached && one.Cached
			other.Milliseconds += one.Milliseconds
			if other.Reason == "" {
				other.Reason = reason
			}
			return
		}
	}
	sum.Explained = append(sum.Explained, one)
}

// pair finds the steps in the last build.
func (m *memory) pair(steps []*step) {
	m.pairs, m.used = map[*step]*stepRow{}, map[*stepRow]bool{}
	if m.old == nil {
		return
	}
	var keyed []*step
	var names []string
	for _, s := range steps {
		if s.key != "" {
			keyed, names = append(keyed, s), append(names, s.v.name)
		}
	}
	for i, k := range match(m.old.Steps, names) {
		if k >= 0 {
			m.pairs[keyed[i]] = &m.old.Steps[k]
			m.used[&m.old.Steps[k]] = true
		}
	}
}

// rest are the old rows of steps that a build which failed did not come to.
func (m *memory) rest() []stepRow {
	if m.old == nil || m.whole {
		return nil
	}
	var rows []stepRow
	for i := range m.old.Steps {
		if !m.used[&m.old.Steps[i]] {
			rows = append(rows, m.old.Steps[i])
		}
	}
	return rows
}

// ranForInput marks a step that ran only because of another one.
const ranForInput = "another step's result changed"

// row is the step as the next build will see it, and whether it is as it was. Of a step that ran, it finds the cause.
func (m *memory) row(s *step) (stepRow, bool) {
	old := m.pairs[s]
	if old != nil && old.Key == s.key && old.Name == s.v.name {
		if s.ran {
			m.causes[s] = m.why(s, old)
		}
		return *old, true
	}
	row := stepRow{Name: s.v.name, Key: s.key}
	if s.parts == nil {
		return row, false
	}
	parts := s.parts()
	if s.ran {
		m.causes[s] = m.explain(s, old, parts)
	}
	for _, p := range parts {
		row.Parts = append(row.Parts, p.row())
		m.list(p)
	}
	return row, false
}

// why is the reason of a step whose parts are as they were.
func (m *memory) why(s *step, old *stepRow) string {
	switch {
	case s.reason != "":
		return s.reason
	case s.key == "":
		return "it was not here"
	case old != nil:
		return "its result was no longer in the cache"
	}
	return "it was never built here"
}

func (m *memory) explain(s *step, old *stepRow, parts []part) string {
	if s.reason != "" {
		return s.reason
	}
	if old == nil {
		if m.old == nil {
			return "it was never built here"
		}
		return "it is new"
	}
	var own, below []string
	for _, d := range compare(old.Parts, parts, m.files) {
		if d.input > 0 {
			below = append(below, m.below(s, d.input-1))
			continue
		}
		own = append(own, d.words)
	}
	switch {
	case len(own) > 0:
		return strings.Join(own, ", ")
	case len(below) > 0:
		s.reason = ranForInput
		return below[0]
	}
	return "its result was no longer in the cache"
}

// below says of the step that another one stands on that it made something else.
func (m *memory) below(s *step, input int) string {
	if input >= len(s.inputs) {
		return "what it stands on changed"
	}
	in := s.inputs[input]
	if at, ok := placeOf(in.v.name); ok {
		if in.v.op.GetSource() != nil {
			return "the image of " + at.words() + " changed"
		}
		return at.words() + " made something else"
	}
	return "what it stands on changed"
}

// files says how the list behind a part has changed, and keeps it for the next build.
func (m *memory) files(old partRow, p part) string {
	l, err := p.list(context.WithoutCancel(m.j.ctx), m.j.b.cache.filesOf(old.Value))
	if err != nil {
		return (*fileDiff)(nil).words()
	}
	m.lists[p.value] = l.packed
	return l.words
}

// list keeps the list behind a part for the next build.
func (m *memory) list(p part) {
	if _, ok := m.lists[p.value]; ok || p.files == nil {
		return
	}
	if l, err := p.list(context.WithoutCancel(m.j.ctx), nil); err == nil { // Without it the next explanation is less exact.
		m.lists[p.value] = l.packed
	}
}
