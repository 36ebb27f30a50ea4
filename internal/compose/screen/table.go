package screen

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// frames turn before what goes on.
var frames = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// table draws the rows that fit: when there are more than lines, what is done is counted.
func (b *Board) table(buf *bytes.Buffer) {
	lines, cols := 24, 80
	if b.o.Size != nil {
		lines, cols = b.o.Size()
	}
	rows, hidden := b.fitting(max(lines-2, 3))
	now := b.o.Now()
	cells := make([][]string, len(rows))
	var widths [4]int
	for i, s := range rows {
		state := s.State
		if s.Detail != "" {
			state += " " + s.Detail
		}
		cells[i] = []string{s.title(), state, s.Health, s.Ports}
		for j, c := range cells[i] {
			widths[j] = max(widths[j], utf8.RuneCountInString(c))
		}
	}
	narrow(&widths, cols)
	for i, s := range rows {
		buf.WriteString(b.mark(s, now) + " ")
		for j, c := range cells[i] {
			if widths[j] == 0 {
				continue
			}
			buf.WriteString(b.paint(pad(c, widths[j]), s, j) + "  ")
		}
		fmt.Fprintf(buf, "%5.1fs\n", s.took(now).Seconds())
	}
	b.drawn = len(rows)
	if hidden > 0 {
		fmt.Fprintf(buf, "  and %d more that are done\n", hidden)
		b.drawn++
	}
}

// narrow makes columns fit: the ports go first, then the end of the states, of the names, and the health.
func narrow(widths *[4]int, cols int) {
	const gap, around = 2, 2 + 6
	over := func() int {
		n := around - cols
		for _, w := range widths {
			if w > 0 {
				n += w + gap
			}
		}
		return n
	}
	if over() > 0 {
		widths[3] = 0
	}
	for _, c := range []struct{ column, least int }{{1, 11}, {0, 10}, {2, 0}, {1, 4}, {0, 4}} {
		if o := over(); o > 0 {
			widths[c.column] -= min(o, max(widths[c.column]-c.least, 0))
		}
	}
}

// title is what a row is called. Of containers the name says it.
func (s *shown) title() string {
	if s.Kind == "Container" {
		return s.Name
	}
	return strings.ToLower(s.Kind) + " " + s.Name
}

func (s *shown) took(now time.Time) time.Duration {
	if !s.end.IsZero() {
		now = s.end
	}
	return max(now.Sub(s.began), 0)
}

// fitting are the rows that are shown, and how many are not.
func (b *Board) fitting(most int) (rows []*shown, hidden int) {
	if len(b.rows) <= most {
		return b.rows, 0
	}
	spare := len(b.rows) - most + 1
	for _, s := range b.rows {
		if hidden < spare && (s.Mark == Done || s.Mark == Unchanged) {
			hidden++
			continue
		}
		rows = append(rows, s)
	}
	return rows[:min(len(rows), most)], hidden + max(len(rows)-most, 0)
}

func (b *Board) mark(s *shown, now time.Time) string {
	switch s.Mark {
	case Done:
		return b.colour("✔", "32")
	case Unchanged:
		return b.colour("✔", "2")
	case Failed:
		return b.colour("✘", "31")
	case Working:
	}
	return b.colour(string(frames[int(now.UnixMilli()/100)%len(frames)]), "36")
}

// paint colours a cell by what it says.
func (b *Board) paint(text string, s *shown, column int) string {
	switch {
	case s.Mark == Failed && column == 1:
		return b.colour(text, "31")
	case column == 2 && s.Health == "healthy":
		return b.colour(text, "32")
	case column == 2 && s.Health == "unhealthy":
		return b.colour(text, "31")
	case column == 2:
		return b.colour(text, "33")
	case column == 3:
		return b.colour(text, "2")
	}
	return text
}

func (b *Board) colour(text, code string) string {
	if !b.o.Coloured || strings.TrimSpace(text) == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// pad makes text exactly n characters long.
func pad(text string, n int) string {
	have := utf8.RuneCountInString(text)
	if have > n {
		r := []rune(text)
		return string(r[:max(n-1, 0)]) + "…"
	}
	return text + strings.Repeat(" ", n-have)
}
