package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/buildmsg"
)

// buildStyle is how a build's progress is shown.
type buildStyle int

const (
	buildQuiet buildStyle = iota
	buildPlain
	buildLive
	buildRaw
)

// buildView shows a build's progress.
type buildView struct {
	w        io.Writer
	style    buildStyle
	coloured bool
	now      func() time.Time

	steps map[string]*stepView
	order []*stepView // as they became known
	warns []buildmsg.Warning

	plain plainView
	live  liveView
}

// stepView is what is known of one step.
type stepView struct {
	buildmsg.Vertex
	// index is the step's number in plain progress; 0 until it is shown.
	index    int
	statuses []*statusView
	// fresh is output that was not shown yet, tail the last lines of it all.
	fresh []logLine
	tail  []logLine
	// open is output without its end of line.
	open     []byte
	openTime float64
	dirty    bool
	done     bool // shown as completed
}

// statusView is a part of a step.
type statusView struct {
	buildmsg.Status
	shown   buildmsg.Status
	changed bool
	begun   bool // was shown
}

// logLine is a line of output with the seconds since its step began.
type logLine struct {
	at   float64
	text string
}

// keptLines is how many lines of a step's output are kept for its failure.
const keptLines = 40

func (a *app) newBuildView(style buildStyle) *buildView {
	v := &buildView{w: a.err, style: style, coloured: a.coloured(), now: time.Now, steps: map[string]*stepView{}}
	if style == buildLive {
		v.live.begin(a.err)
	}
	return v
}

// show takes a message.
func (v *buildView) show(m *buildmsg.Message, raw []byte) error {
	if v.style == buildRaw {
		_, err := v.w.Write(append(raw, '\n'))
		return err
	}
	v.take(m)
	switch v.style {
	case buildPlain:
		return v.printPlain()
	case buildLive:
		return v.drawLive(false)
	default:
		return nil
	}
}

// take remembers what a message says.
func (v *buildView) take(m *buildmsg.Message) {
	for i := range m.Vertexes {
		s := v.step(m.Vertexes[i].Digest)
		old := s.Vertex
		s.Vertex = m.Vertexes[i]
		if s.Name == "" {
			s.Name = old.Name
		}
		if s.Started == nil {
			s.Started = old.Started
		}
		s.dirty = s.dirty || s.Started != nil || s.Completed != nil
	}
	for i := range m.Statuses {
		v.step(m.Statuses[i].Vertex).status(&m.Statuses[i])
	}
	for i := range m.Logs {
		v.step(m.Logs[i].Vertex).log(&m.Logs[i])
	}
	v.warns = append(v.warns, m.Warnings...)
}

func (v *buildView) step(digest string) *stepView {
	s, ok := v.steps[digest]
	if !ok {
		s = &stepView{}
		s.Digest = digest
		v.steps[digest] = s
		v.order = append(v.order, s)
	}
	return s
}

func (s *stepView) status(m *buildmsg.Status) {
	s.dirty = true
	for _, st := range s.statuses {
		if st.ID == m.ID {
			st.Status, st.changed = *m, true
			return
		}
	}
	s.statuses = append(s.statuses, &statusView{Status: *m, changed: true})
}

// log takes output apart into lines.
func (s *stepView) log(l *buildmsg.Log) {
	at := 0.0
	if s.Started != nil {
		at = max(l.Timestamp.Sub(*s.Started).Seconds(), 0)
	}
	data := l.Data
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if len(s.open) == 0 {
			s.openTime = at
		}
		s.open = append(s.open, line...)
		data = rest
		if !whole {
			break
		}
		s.closeLine()
	}
	s.dirty = true
}

// closeLine ends the line that is open.
func (s *stepView) closeLine() {
	text := string(s.open)
	s.open = s.open[:0]
	if i := strings.LastIndexByte(strings.TrimSuffix(text, "\r"), '\r'); i >= 0 {
		text = text[i+1:] // What was drawn over.
	}
	l := logLine{s.openTime, cleanOutput(text)}
	s.fresh = append(s.fresh, l)
	s.tail = append(s.tail, l)
	if len(s.tail) > 2*keptLines {
		s.tail = append([]logLine(nil), s.tail[len(s.tail)-keptLines:]...)
	}
}

// cleanOutput takes out of a line what would move the cursor: colours stay.
func cleanOutput(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != 0x1b {
			if c := s[i]; c >= ' ' && c != 0x7f || c == '\t' {
				b.WriteByte(c)
			}
			i++
			continue
		}
		seq := escapeSequence(s[i:])
		if strings.HasSuffix(seq, "m") && strings.HasPrefix(seq, "\x1b[") {
			b.WriteString(seq)
		}
		i += len(seq)
	}
	return b.String()
}

// escapeSequence is the control sequence that s begins with.
func escapeSequence(s string) string {
	if len(s) < 2 {
		return s
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return s[:i+1]
			}
		}
		return s
	case ']':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return s[:i+1]
			}
		}
		return s
	}
	return s[:2]
}

// duration is how long a step has taken.
func (s *stepView) duration(now time.Time) float64 {
	if s.Started == nil {
		return 0
	}
	if s.Completed != nil {
		now = *s.Completed
	}
	return max(now.Sub(*s.Started).Seconds(), 0)
}

// ticks is when a live view moves though nothing has happened; nil is never.
func (v *buildView) ticks() <-chan time.Time {
	if v.style != buildLive {
		return nil
	}
	return v.live.ticks
}

func (v *buildView) tick() { _ = v.drawLive(false) } // A terminal that is gone is noticed by the build's end.

// close ends the view.
func (v *buildView) close() {
	if v.style == buildLive {
		_ = v.drawLive(true)
		v.live.end()
	}
}

// warnings lists what the frontend has warned of, as docker does at the end.
func (v *buildView) warnings() {
	if len(v.warns) == 0 {
		return
	}
	noun := "warnings"
	if len(v.warns) == 1 {
		noun = "warning"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n %d %s found (kist build --check says more):\n", len(v.warns), noun)
	for i := range v.warns {
		w := &v.warns[i]
		fmt.Fprintf(&b, " - %s", stripControl(string(w.Short)))
		if len(w.Range) > 0 && !strings.Contains(string(w.Short), "(line ") {
			fmt.Fprintf(&b, " (line %d)", w.Range[0].Start.Line)
		}
		b.WriteString("\n")
	}
	_, _ = io.WriteString(v.w, b.String()+"\n")
}
