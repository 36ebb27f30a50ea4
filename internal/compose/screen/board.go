// Package screen shows what happens to a project: one table that is drawn over on a terminal, a line for each change elsewhere,
// and what containers print, each line with its container's name.
package screen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Style is how a board shows.
type Style int

// Styles of a board.
const (
	Quiet Style = iota
	Plain
	Live
	JSON
)

// Row is one thing on the board.
type Row struct {
	// Kind and Name say what it is: Container web-1, Network back.
	Kind, Name string
	// State is what it is or what is done to it; Health and Ports are a container's.
	State, Health, Ports string
	// Detail says more: "12MB/45MB", "db to be healthy".
	Detail string
	// Mark says how State is to be taken.
	Mark Mark
}

// Mark says how a row's state is to be taken.
type Mark int

// Marks of a row: something goes on, it is as it shall be, it was so already, it failed.
const (
	Working Mark = iota
	Done
	Unchanged
	Failed
)

// Options of a board.
type Options struct {
	Style    Style
	Coloured bool
	// Size is the terminal's, asked for anew each time it is drawn.
	Size func() (rows, cols int)
	// Now is the time; time.Now if nil.
	Now func() time.Time
}

// Board is the table. It is safe for concurrent use.
type Board struct {
	w io.Writer
	o Options

	mu    sync.Mutex // guards what is below
	rows  []*shown
	drawn int // lines that are drawn over
	stop  chan struct{}
	ended sync.WaitGroup
}

// shown is a row with its times.
type shown struct {
	Row
	began, end time.Time
}

// redraw is how often a live board moves.
const redraw = 100 * time.Millisecond

// New makes a board that writes to w.
func New(w io.Writer, o Options) *Board {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Board{w: w, o: o}
}

// Set shows a row, in the place of the one of the same kind and name.
func (b *Board) Set(r Row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.o.Now()
	s := b.find(r)
	before := Row{}
	if s == nil {
		s = &shown{began: now}
		b.rows = append(b.rows, s)
	} else {
		before = s.Row
	}
	if r.Health == "" {
		r.Health = before.Health
	}
	if r.Ports == "" {
		r.Ports = before.Ports
	}
	s.Row = r
	if r.Mark != Working && s.end.IsZero() {
		s.end = now
	} else if r.Mark == Working && before.Mark != Working {
		s.began, s.end = now, time.Time{}
	}
	switch b.o.Style {
	case Plain:
		b.line(s, before)
	case JSON:
		b.record(s)
	case Live:
		b.run()
	case Quiet:
	}
}

func (b *Board) find(r Row) *shown {
	for _, s := range b.rows {
		if s.Kind == r.Kind && s.Name == r.Name {
			return s
		}
	}
	return nil
}

// line writes a change as a line. What is only on its way to another state is left out, but for what may take long.
func (b *Board) line(s *shown, before Row) {
	if s.State == before.State && s.Health == before.Health && s.Mark == before.Mark || s.Mark == Working && s.State == before.State {
		return
	}
	if s.Mark == Working && s.Detail == "" && s.State != "pulling" {
		return
	}
	text := s.Kind + " " + s.Name + "  " + s.State
	if s.Health != "" && s.Health != before.Health && s.Health != s.State {
		text += " (" + s.Health + ")"
	}
	if s.Detail != "" && (s.Mark == Failed || !strings.ContainsAny(s.Detail, "/%")) {
		text += " " + s.Detail
	}
	if took := s.end.Sub(s.began); s.Mark == Done && took >= 100*time.Millisecond {
		text += fmt.Sprintf(" %.1fs", took.Seconds())
	}
	b.write([]byte(text + "\n"))
}

// record writes a change as JSON.
func (b *Board) record(s *shown) {
	marks := [...]string{"working", "done", "unchanged", "failed"}
	raw, err := json.Marshal(struct {
		Time   time.Time `json:"time"`
		Kind   string    `json:"kind"`
		ID     string    `json:"id"`
		Status string    `json:"status"`
		Mark   string    `json:"mark"`
		Health string    `json:"health,omitempty"`
		Ports  string    `json:"ports,omitempty"`
		Text   string    `json:"text,omitempty"`
	}{b.o.Now(), strings.ToLower(s.Kind), s.Name, s.State, marks[s.Mark], s.Health, s.Ports, s.Detail})
	if err == nil {
		b.write(append(raw, '\n'))
	}
}

// write is for a person: when nobody reads, the work goes on.
func (b *Board) write(p []byte) { _, _ = b.w.Write(p) }

// Note writes a line above the table.
func (b *Board) Note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var buf bytes.Buffer
	b.wipe(&buf)
	buf.WriteString(text + "\n")
	if b.stop != nil {
		b.table(&buf)
	}
	b.write(buf.Bytes())
}

// run has a live board drawn from now on.
func (b *Board) run() {
	if b.stop != nil {
		return
	}
	stop := make(chan struct{})
	b.stop = stop
	b.ended.Go(func() {
		t := time.NewTicker(redraw)
		defer t.Stop()
		for {
			b.draw()
			select {
			case <-t.C:
			case <-stop:
				return
			}
		}
	})
}

func (b *Board) draw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	var buf bytes.Buffer
	b.wipe(&buf)
	b.table(&buf)
	b.write(buf.Bytes())
}

// wipe takes away what was drawn.
func (b *Board) wipe(buf *bytes.Buffer) {
	if b.drawn > 0 {
		fmt.Fprintf(buf, "\x1b[%dA\r\x1b[J", b.drawn)
	}
	b.drawn = 0
}

// Close draws for the last time; the table stays. A board that is set again after it begins a new one.
func (b *Board) Close() {
	b.mu.Lock()
	stop := b.stop
	b.stop = nil
	b.mu.Unlock()
	if stop != nil {
		close(stop)
		b.ended.Wait()
		b.draw()
	}
	b.mu.Lock()
	b.drawn, b.rows = 0, nil
	b.mu.Unlock()
}
