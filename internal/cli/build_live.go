package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// liveDelay is how often a live view is drawn anew.
	liveDelay = 100 * time.Millisecond
	// liveLines is how many lines of output are shown of a step that runs.
	liveLines = 6
)

// liveView shows what has ended as lines that stay, and below them what runs, drawn over and over.
type liveView struct {
	ticks  chan time.Time
	ticker *time.Ticker
	drawn  int // lines that are drawn over
	last   time.Time
	rows   int
	cols   int
	size   func() (rows, cols int)
}

func (l *liveView) begin(w io.Writer) {
	l.size = func() (int, int) {
		if rows, cols, ok := terminalSize(w); ok {
			return rows, cols
		}
		return 24, 80
	}
	l.ticks = make(chan time.Time, 1)
	l.ticker = time.NewTicker(liveDelay)
	ticker, ticks := l.ticker, l.ticks
	go func() {
		for t := range ticker.C {
			select {
			case ticks <- t:
			default:
			}
		}
	}()
}

func (l *liveView) end() { l.ticker.Stop() }

// drawLive draws when enough time has gone; at the end once more, without what ran.
func (v *buildView) drawLive(end bool) error {
	l, now := &v.live, v.now()
	if !end && now.Sub(l.last) < liveDelay/2 {
		return nil
	}
	l.last = now
	l.rows, l.cols = l.size()
	var b bytes.Buffer
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", l.drawn)
	}
	l.drawn = 0
	for _, s := range v.order {
		if s.Completed != nil && !s.done {
			s.done = true
			v.liveStep(&b, s, now)
		}
	}
	if !end {
		l.drawn = v.liveRunning(&b, now)
	}
	_, err := v.w.Write(b.Bytes())
	return err
}

// liveStep writes a step's line.
func (v *buildView) liveStep(b *bytes.Buffer, s *stepView, now time.Time) {
	mark, colour := " => ", ""
	switch {
	case s.Error != "" && strings.HasSuffix(s.Error, "context canceled"):
		mark, colour = " => CANCELED ", "33"
	case s.Error != "":
		mark, colour = " => ERROR ", "31"
	case s.Cached:
		mark, colour = " => CACHED ", "34"
	case s.Completed != nil:
		colour = "34"
	}
	took := ""
	if !s.Cached || s.Error != "" {
		took = fmt.Sprintf("%.1fs", s.duration(now))
	}
	room := max(v.live.cols-len(mark)-len(took)-2, 8)
	name := ellipsis(stripControl(s.Name), room)
	line := mark + name + strings.Repeat(" ", max(room-len([]rune(name)), 0)) + " " + took
	b.WriteString(paint(strings.TrimRight(line, " "), colour, v.coloured && colour != "") + "\n")
}

// liveRunning writes the steps that run, their parts and the last of their output, as far as the screen has room, and
// returns the number of lines.
func (v *buildView) liveRunning(b *bytes.Buffer, now time.Time) int {
	var running []*stepView
	for _, s := range v.order {
		if s.Started != nil && s.Completed == nil {
			running = append(running, s)
		}
	}
	room := max(v.live.rows-2, 1)
	lines := 0
	for i, s := range running {
		if lines >= room {
			break
		}
		v.liveStep(b, s, now)
		lines++
		left := room - lines - (len(running) - i - 1)
		for _, text := range s.liveDetails(min(max(left, 0), liveLines)) {
			b.WriteString(paint(" => => "+truncate(text, max(v.live.cols-8, 8)), "2", v.coloured) + "\n")
			lines++
		}
	}
	return lines
}

// liveDetails are at most n lines about what a step does.
func (s *stepView) liveDetails(n int) []string {
	var all []string
	for _, st := range s.statuses {
		if st.Completed != nil {
			continue
		}
		line := stripControl(st.ID)
		if st.Total > 0 {
			line += fmt.Sprintf(" %s / %s", byteCount(st.Current), byteCount(st.Total))
		} else if st.Current > 0 {
			line += " " + byteCount(st.Current)
		}
		all = append(all, line)
	}
	tail := s.tail[max(len(s.tail)-liveLines, 0):]
	for _, l := range tail {
		all = append(all, fmt.Sprintf("%.1f %s", l.at, strings.ReplaceAll(stripControl(stripColour(l.text)), "\t", " ")))
	}
	return all[max(len(all)-n, 0):]
}

// stripColour takes colours out.
func stripColour(s string) string {
	if !strings.Contains(s, "\x1b") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			i += len(escapeSequence(s[i:]))
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}
