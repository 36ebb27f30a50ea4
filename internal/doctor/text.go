package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// colours of the states on a terminal.
var colours = map[State]string{OK: "32", Warn: "1;33", Fail: "1;31"}

// WriteText writes the report for a person: a line for each finding, what mends it below, and a line of totals.
func (r *Report) WriteText(w io.Writer, coloured bool) error {
	var b strings.Builder
	area := ""
	for i := range r.Findings {
		f := &r.Findings[i]
		shown := f.Area
		if shown == area {
			shown = ""
		}
		area = f.Area
		state := fmt.Sprintf("%-4s", f.State)
		if coloured {
			state = "\x1b[" + colours[f.State] + "m" + state + "\x1b[0m"
		}
		fmt.Fprintf(&b, "%-11s %s  %s: %s\n", shown, state, f.Name, f.Text)
		indent := strings.Repeat(" ", 18)
		switch {
		case f.Fixed:
			b.WriteString(indent + "cleared away\n")
		case f.FixError != "":
			b.WriteString(indent + "not cleared away: " + f.FixError + "\n")
		case f.Try != "":
			b.WriteString(indent + "try: " + f.Try + "\n")
		}
	}
	fmt.Fprintf(&b, "%d ok, %d to look at, %d failed\n", r.Summary.OK, r.Summary.Warn, r.Summary.Fail)
	if n := r.fixable(); n > 0 {
		fmt.Fprintf(&b, "kist doctor --fix clears %d of them away\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fixable counts what could be cleared away and is still there.
func (r *Report) fixable() (n int) {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Fixable && !f.Fixed && f.FixError == "" {
			n++
		}
	}
	return n
}

// WriteJSON writes the report for a program.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
