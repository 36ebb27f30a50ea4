package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/movemsg"
)

// moveView is one move as a person sees it.
type moveView struct {
	a      *app
	v      *progressView
	began  time.Time
	req    *movemsg.Request
	target string
	line   []byte // that has not come whole
	result *movemsg.Result
}

// join copies between the two daemons until the near one has said its last word.
func (m *moveView) join(near, far *client.Stream) error {
	go func() {
		_, _ = io.Copy(near, far.Reader())
		_ = near.CloseWrite() // The near daemon knows what it means that the far one is gone.
	}()
	err := client.Demux(&farWriter{w: far}, m, near.Reader())
	switch {
	case m.result != nil:
		return nil
	case err != nil:
		return err
	}
	return &hintedError{err: errors.New("the daemon hung up in the middle of the move"), try: "run the command again: only the rest is sent", code: "daemon-hung-up"}
}

// farWriter goes on when the far daemon takes nothing any more: the near one hears that in another way, and says what it means.
type farWriter struct {
	w    io.Writer
	gone bool
}

func (f *farWriter) Write(p []byte) (int, error) {
	if !f.gone {
		if _, err := f.w.Write(p); err != nil {
			f.gone = true
		}
	}
	return len(p), nil
}

// Write takes the near daemon's lines.
func (m *moveView) Write(p []byte) (int, error) {
	m.line = append(m.line, p...)
	for {
		i := bytes.IndexByte(m.line, '\n')
		if i < 0 {
			return len(p), nil
		}
		if err := m.say(m.line[:i]); err != nil {
			return 0, err
		}
		m.line = m.line[i+1:]
	}
}

func (m *moveView) say(raw []byte) error {
	var l movemsg.Line
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("read the daemon's progress: %w", err)
	}
	switch {
	case l.Failure != nil:
		return &client.Error{Parts: *l.Failure}
	case l.Result != nil:
		m.result = l.Result
		return nil
	case l.Say != "":
		if m.v.style == styleJSON {
			return m.v.message(&progressMessage{Status: l.Say}, raw)
		}
		if m.v.style != styleQuiet {
			m.a.note(stripControl(l.Say))
		}
		return nil
	}
	p := &progressMessage{ID: l.Item, Status: l.Doing}
	p.Detail.Current, p.Detail.Total = l.Done, l.Total
	return m.v.message(p, bytes.Clone(raw))
}

// end prints what became of it.
func (m *moveView) end() error {
	if m.v.style != styleQuiet && m.v.style != styleJSON {
		m.a.note(m.summary())
	}
	return m.a.printLine(m.result.ID)
}

// summary is one line of totals, and what stays here.
func (m *moveView) summary() string {
	r := m.result
	size := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	s := fmt.Sprintf("sent %s of %s", size(r.Sent), size(r.Size))
	if r.Sent < r.Size {
		s += " (the rest was there, or compressed away)"
	}
	s += fmt.Sprintf(" to %s in %s", m.target, time.Since(m.began).Round(10*time.Millisecond))
	switch {
	case m.req.Kind == movemsg.Container && r.Running:
		s += "; it runs there"
	case m.req.Kind == movemsg.Container:
		s += "; it is there, stopped as it was here"
	}
	if r.Gone {
		s += ", and is not here any more"
	}
	if len(r.Left) > 0 {
		s += "\nits volumes stay here until kist volume rm " + strings.Join(r.Left, " ")
	}
	return s
}
