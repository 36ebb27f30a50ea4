package api

import (
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// classicView shows a build as the classic builder did, one instruction after the other, though they run side by side:
// what comes early waits for its turn.
type classicView struct {
	p     *progress
	quiet bool
	plan  *classicPlan

	steps []classicState
	byKey map[digest.Digest]int // step of a vertex; -1 for one that is none
	at    int                   // whose turn it is
}

// classicState is what is known of a step.
type classicState struct {
	begun, ended, cached, shown bool
	waiting                     []byte // output that its turn has not come for, or the begin of a character
}

func newClassicView(p *progress, quiet bool, plan *classicPlan) *classicView {
	if plan == nil {
		plan = &classicPlan{counts: map[string]int{}}
	}
	return &classicView{p: p, quiet: quiet, plan: plan, steps: make([]classicState, len(plan.steps)), byKey: map[digest.Digest]int{}}
}

// say adds text.
func (v *classicView) say(text string) {
	if !v.quiet && text != "" {
		v.p.stream(text)
	}
}

// vertexName is how a step of the graph is called: its platform and its stage, if there are several, its number and its text.
var vertexName = regexp.MustCompile(`^\[(?:(?:.* )?([^ ]+) +)? *(\d+)/(\d+)\] (.*)$`)

// status takes progress.
func (v *classicView) status(s *client.SolveStatus) {
	for _, vx := range s.Vertexes {
		i := v.find(vx)
		if i < 0 {
			continue
		}
		st := &v.steps[i]
		st.begun = st.begun || vx.Started != nil
		st.ended = st.ended || vx.Completed != nil
		st.cached = st.cached || vx.Cached
	}
	for _, l := range s.Logs {
		if i, ok := v.byKey[l.Vertex]; ok && i >= 0 {
			v.steps[i].waiting = append(v.steps[i].waiting, l.Data...)
		}
	}
	v.advance()
}

// find is the step that a vertex is.
func (v *classicView) find(vx *client.Vertex) int {
	if i, ok := v.byKey[vx.Digest]; ok {
		return i
	}
	i := -1
	if m := vertexName.FindStringSubmatch(vx.Name); m != nil && m[1] != "internal" {
		index, _ := strconv.Atoi(m[2])
		total, _ := strconv.Atoi(m[3])
		if len(v.plan.counts) > 0 {
			i = v.plan.find(m[1], index, total)
		} else {
			i = len(v.steps)
			v.steps = append(v.steps, classicState{})
			v.plan.steps = append(v.plan.steps, classicStep{text: oneLine(m[4]), index: index})
		}
	}
	v.byKey[vx.Digest] = i
	return i
}

// advance shows what can be shown by now.
func (v *classicView) advance() {
	for v.at < len(v.steps) {
		st := &v.steps[v.at]
		if v.plan.steps[v.at].index > 0 && !st.begun {
			return
		}
		v.show(v.at)
		if v.plan.steps[v.at].index > 0 && !st.ended {
			return
		}
		v.close(v.at)
		v.at++
	}
}

// show says that a step has begun, and what it has said since.
func (v *classicView) show(i int) {
	st := &v.steps[i]
	if !st.shown {
		st.shown = true
		v.say(fmt.Sprintf("Step %d/%d : %s", i+1, len(v.steps), v.plan.steps[i].text))
		v.say("\n")
	}
	whole := st.waiting
	if !st.ended {
		whole = wholeRunes(whole)
	}
	v.say(string(whole))
	st.waiting = append([]byte(nil), st.waiting[len(whole):]...)
}

// close ends a step.
func (v *classicView) close(i int) {
	if v.steps[i].cached {
		v.say(" ---> Using cache\n")
	}
}

// wholeRunes leaves out a character at the end of which only a part has come.
func wholeRunes(b []byte) []byte {
	for n := 1; n <= min(len(b), utf8.UTFMax-1); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-n:]) {
				return b[:len(b)-n]
			}
			break
		}
	}
	return b
}

// finish shows what is left: all of it after a success, and what has begun after a failure.
func (v *classicView) finish(err error) {
	for ; v.at < len(v.steps); v.at++ {
		st := &v.steps[v.at]
		if err != nil && !st.begun {
			continue
		}
		if !st.begun {
			st.cached = v.plan.steps[v.at].index > 0 // Nothing had to be done for it.
		}
		st.ended = true
		v.show(v.at)
		v.close(v.at)
	}
}
