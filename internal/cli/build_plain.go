package cli

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// When a part of a step that moves is shown again: after a share of it, or a time.
const (
	plainShare = 0.05
	plainDelay = 5 * time.Second
)

// plainPatience is how long the step that is shown may say nothing before another one that has something to say takes its
// place.
const plainPatience = 2 * time.Second

// plainView prints steps one after the other, as docker does: "#5 [2/4] RUN make", its output, "#5 DONE 0.1s".
type plainView struct {
	current *stepView
	said    time.Time // when current said something
	next    int
	begun   bool
	buf     bytes.Buffer
}

// printPlain prints what is new: first what has completed, then the step that is shown already, and only when that has
// nothing to say another one.
func (v *buildView) printPlain() error {
	p := &v.plain
	if c := p.current; c != nil && c.dirty {
		v.plainStep(c)
	}
	for _, s := range v.order {
		if s.dirty && s.Completed != nil && !s.done {
			v.plainStep(s)
		}
	}
	if p.current == nil || v.now().Sub(p.said) > plainPatience {
		for _, s := range v.order {
			if s.dirty && s.Started != nil && !s.done {
				v.plainStep(s)
				break
			}
		}
	}
	_, err := v.w.Write(p.buf.Bytes())
	p.buf.Reset()
	return err
}

// plainStep prints what is new of a step.
func (v *buildView) plainStep(s *stepView) {
	p := &v.plain
	if s.index == 0 {
		p.next++
		s.index = p.next
	}
	if p.current != s {
		if p.current != nil {
			fmt.Fprintf(&p.buf, "#%d ...\n", p.current.index)
		}
		if p.begun {
			p.buf.WriteString("\n")
		}
		p.begun = true
		fmt.Fprintf(&p.buf, "#%d %s\n", s.index, stripControl(s.Name))
	}
	p.current, p.said, s.dirty = s, v.now(), false
	for _, st := range s.statuses {
		if line := st.plainLine(); line != "" {
			fmt.Fprintf(&p.buf, "#%d %s\n", s.index, line)
		}
	}
	if s.Completed != nil && len(s.open) > 0 {
		s.closeLine()
	}
	for _, l := range s.fresh {
		fmt.Fprintf(&p.buf, "#%d %.3f %s\n", s.index, l.at, l.text)
	}
	s.fresh = s.fresh[:0]
	if s.Completed == nil {
		return
	}
	switch {
	case s.Error != "" && strings.HasSuffix(s.Error, "context canceled"):
		fmt.Fprintf(&p.buf, "#%d CANCELED\n", s.index)
	case s.Error != "":
		fmt.Fprintf(&p.buf, "#%d ERROR: %s\n", s.index, stripControl(s.Error))
	case s.Cached:
		fmt.Fprintf(&p.buf, "#%d CACHED\n", s.index)
	default:
		fmt.Fprintf(&p.buf, "#%d DONE %.1fs\n", s.index, s.duration(v.now()))
	}
	s.done = true
	p.current = nil
}

// plainLine is a part of a step as a line, or empty if it has not moved enough.
func (st *statusView) plainLine() string {
	if !st.changed {
		return ""
	}
	st.changed = false
	if st.begun && st.Completed == nil {
		moved := 0.0
		if st.Total > 0 {
			moved = float64(st.Current-st.shown.Current) / float64(st.Total)
		}
		if moved < plainShare && st.Timestamp.Sub(st.shown.Timestamp) < plainDelay {
			return ""
		}
	}
	st.begun, st.shown = true, st.Status
	line := stripControl(st.ID)
	switch {
	case st.Total > 0:
		line += fmt.Sprintf(" %s / %s", byteCount(st.Current), byteCount(st.Total))
	case st.Current > 0:
		line += " " + byteCount(st.Current)
	}
	end := st.Timestamp
	if st.Completed != nil {
		end = *st.Completed
	}
	if st.Started != nil {
		if took := end.Sub(*st.Started).Seconds(); took > 0.01 {
			line += fmt.Sprintf(" %.1fs", took)
		}
	}
	if st.Completed != nil {
		line += " done"
	}
	return line
}

// byteCount is a number of bytes as docker's progress has it: 1.23MB.
func byteCount(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1000
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%dB", n)
	}
	return fmt.Sprintf("%.2f%s", f, units[i])
}
