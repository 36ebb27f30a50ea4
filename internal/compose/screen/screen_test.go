package screen

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/testbed/suite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that goes on by half a second at each look.
type clock struct{ t time.Time }

func (c *clock) now() time.Time {
	c.t = c.t.Add(500 * time.Millisecond)
	return c.t
}

// story is what happens to a project.
var story = []Row{
	{Kind: "Network", Name: "shop_default", State: "creating"},
	{Kind: "Network", Name: "shop_default", State: "created", Mark: Done},
	{Kind: "Image", Name: "postgres:17", State: "pulling"},
	{Kind: "Image", Name: "postgres:17", State: "pulling", Detail: "12MB/45MB"},
	{Kind: "Image", Name: "postgres:17", State: "pulled", Mark: Done},
	{Kind: "Container", Name: "db-1", State: "creating"},
	{Kind: "Container", Name: "web-1", State: "waiting", Detail: "for db to be healthy"},
	{Kind: "Container", Name: "db-1", State: "running", Health: "starting", Ports: "5432->5432"},
	{Kind: "Container", Name: "db-1", State: "running", Health: "healthy", Mark: Done},
	{Kind: "Container", Name: "web-1", State: "starting"},
	{Kind: "Container", Name: "web-1", State: "started", Ports: "8080->80", Mark: Done},
	{Kind: "Container", Name: "old-1", State: "running", Mark: Unchanged},
	{Kind: "Container", Name: "sick-1", State: "not started", Mark: Failed},
}

func TestPlain(t *testing.T) {
	var b bytes.Buffer
	board := New(&b, Options{Style: Plain, Now: (&clock{}).now})
	for _, r := range story {
		board.Set(r)
	}
	board.Note("a note")
	board.Close()
	suite.Golden(t, "plain.golden", b.String())
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	board := New(&b, Options{Style: JSON, Now: (&clock{}).now})
	for _, r := range story {
		board.Set(r)
	}
	board.Close()
	lines := 0
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || m["id"] == "" || m["kind"] == "" {
			t.Errorf("%q: %v", line, err)
		}
		lines++
	}
	if lines != len(story) {
		t.Errorf("%d lines for %d changes", lines, len(story))
	}
}

// TestTable draws the table once, as wide as a terminal and narrower than its content.
func TestTable(t *testing.T) {
	for name, cols := range map[string]int{"table": 80, "table-narrow": 40} {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			board := New(nil, Options{Now: c.now, Size: func() (int, int) { return 24, cols }})
			for _, r := range story {
				board.Set(r)
			}
			var b bytes.Buffer
			board.table(&b)
			for line := range strings.Lines(b.String()) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n > cols {
					t.Errorf("%d columns of %d: %q", n, cols, line)
				}
			}
			suite.Golden(t, name+".golden", b.String())
		})
	}
}

// TestMoreThanFits counts what is done where there is no room to show it.
func TestMoreThanFits(t *testing.T) {
	board := New(nil, Options{Now: (&clock{}).now, Size: func() (int, int) { return 8, 80 }})
	for _, name := range strings.Split("abcdefghij", "") {
		board.Set(Row{Kind: "Container", Name: name, State: "started", Mark: Done})
	}
	board.Set(Row{Kind: "Container", Name: "last", State: "starting"})
	var b bytes.Buffer
	board.table(&b)
	if out := b.String(); strings.Count(out, "\n") != 6 || !strings.Contains(out, "and 6 more that are done") || !strings.Contains(out, "last") {
		t.Errorf("got:\n%s", out)
	}
}

// TestLive ends what it started, and leaves the table on the screen.
func TestLive(t *testing.T) {
	var b bytes.Buffer
	board := New(&b, Options{Style: Live, Size: func() (int, int) { return 24, 80 }})
	board.Set(Row{Kind: "Container", Name: "web-1", State: "starting"})
	board.Note("in between")
	board.Set(Row{Kind: "Container", Name: "web-1", State: "started", Mark: Done})
	board.Close()
	board.Close()
	out := b.String()
	if !strings.Contains(out, "in between\n") || !strings.Contains(out[strings.LastIndex(out, "\x1b[J")+1:], "web-1") {
		t.Errorf("got %q", out)
	}
}

func TestPrinter(t *testing.T) {
	var out, errs bytes.Buffer
	p := &Printer{Out: &out, Err: &errs, Clean: func(s string) string { return strings.ReplaceAll(s, "\x1b[2J", "") }}
	a, b := p.Source("web-1"), p.Source("database-1")
	write := func(w interface{ Write([]byte) (int, error) }, s string) {
		t.Helper()
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	write(a.Stdout(), "one\r\ntw")
	write(b.Stdout(), "other\n")
	write(a.Stderr(), "oops\n")
	write(a.Stdout(), "o\n\x1b[2Jthree")
	a.Flush()
	b.Say("ended")
	want := "web-1       | one\ndatabase-1  | other\nweb-1       | two\nweb-1       | three\ndatabase-1  | ended\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	if errs.String() != "web-1       | oops\n" {
		t.Errorf("standard error: %q", errs.String())
	}
}

func TestEndlessLine(t *testing.T) {
	var out bytes.Buffer
	p := &Printer{Out: &out, Err: &out, Bare: true}
	s := p.Source("a")
	for range 3 {
		if _, err := s.Stdout().Write(bytes.Repeat([]byte("x"), longestLine)); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%d lines", strings.Count(out.String(), "\n"))
	}
}
