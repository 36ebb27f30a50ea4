package screen

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// Printer writes what containers print, a line at a time, each with its container's name.
type Printer struct {
	Out, Err io.Writer
	// Coloured gives each container a colour of its own; Bare leaves the names out.
	Coloured, Bare bool
	// Clean takes out of a line what would move the cursor; nil leaves lines as they are.
	Clean func(string) string

	mu    sync.Mutex // guards what is below
	width int
	next  int
}

// colours are those of the containers, one after the other.
var colours = []string{"36", "33", "32", "35", "34", "96", "93", "92", "95", "94"}

// Source is one container's lines.
type Source struct {
	p           *Printer
	name, paint string
	out, err    bytes.Buffer
}

// longestName is how wide the names may get.
const longestName = 40

// Expect makes room for names that are to come.
func (p *Printer) Expect(names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range names {
		p.width = max(p.width, min(len(n), longestName))
	}
}

// Source makes the writer of a container.
func (p *Printer) Source(name string) *Source {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.width = max(p.width, min(len(name), longestName))
	s := &Source{p: p, name: name}
	if p.Coloured {
		s.paint = colours[p.next%len(colours)]
		p.next++
	}
	return s
}

// Stdout is where the container's standard output goes, Stderr its standard error.
func (s *Source) Stdout() io.Writer { return lineWriter{s, &s.out, s.p.Out} }

// Stderr is where the container's standard error goes.
func (s *Source) Stderr() io.Writer { return lineWriter{s, &s.err, s.p.Err} }

// Say writes a line about the container.
func (s *Source) Say(text string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	_ = s.line(s.p.Out, text) // When nobody reads, nobody misses it.
}

// Flush writes lines that have no end yet.
func (s *Source) Flush() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for _, part := range []struct {
		b *bytes.Buffer
		w io.Writer
	}{{&s.out, s.p.Out}, {&s.err, s.p.Err}} {
		if part.b.Len() > 0 {
			_ = s.line(part.w, part.b.String()) // As above.
			part.b.Reset()
		}
	}
}

// line writes a whole line. The printer's lock is held.
func (s *Source) line(w io.Writer, text string) error {
	if s.p.Clean != nil {
		text = s.p.Clean(strings.TrimSuffix(text, "\r"))
	}
	if s.p.Bare {
		_, err := io.WriteString(w, text+"\n")
		return err
	}
	prefix := s.name + strings.Repeat(" ", max(s.p.width-len(s.name), 0)) + "  | "
	if s.paint != "" {
		prefix = "\x1b[" + s.paint + "m" + prefix + "\x1b[0m"
	}
	_, err := io.WriteString(w, prefix+text+"\n")
	return err
}

// lineWriter takes a stream apart.
type lineWriter struct {
	s    *Source
	open *bytes.Buffer
	to   io.Writer
}

// longestLine is where a line without an end is broken.
const longestLine = 64 << 10

// Write takes a part of the stream.
func (l lineWriter) Write(p []byte) (int, error) {
	l.s.p.mu.Lock()
	defer l.s.p.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		l.open.Write(line)
		rest = after
		if !whole && l.open.Len() < longestLine {
			break
		}
		text := l.open.String()
		l.open.Reset()
		if err := l.s.line(l.to, text); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
