package debian

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
)

// Field is one of a paragraph's fields; of a value of several lines the further ones keep their leading space.
type Field struct{ Name, Value string }

// Paragraph is a stanza of a control file, its fields in their order.
type Paragraph []Field

// get is the value of a field, whose name may be written in any case; empty if there is none.
func (p Paragraph) get(name string) string {
	for _, f := range p {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// words are a field's value, split at spaces.
func (p Paragraph) words(name string) []string { return strings.Fields(p.get(name)) }

// Write writes the paragraph and the empty line that ends it.
func (p Paragraph) Write(w io.Writer) error {
	var b bytes.Buffer
	for _, f := range p {
		b.WriteString(f.Name)
		b.WriteByte(':')
		if f.Value != "" && f.Value[0] != '\n' {
			b.WriteByte(' ')
		}
		b.WriteString(f.Value)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// parseParagraphs reads a control file. Lines that begin with # are comments.
func parseParagraphs(text []byte) ([]Paragraph, error) {
	var all []Paragraph
	var now Paragraph
	for n := 1; len(text) > 0; n++ {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		line = bytes.TrimRight(line, " \t\r")
		switch {
		case len(line) == 0:
			if len(now) > 0 {
				all, now = append(all, now), nil
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if len(now) == 0 {
				return nil, badLine(n, "goes on where nothing began")
			}
			now[len(now)-1].Value += "\n" + string(line)
		default:
			name, value, ok := bytes.Cut(line, []byte(":"))
			if !ok || len(name) == 0 || bytes.ContainsAny(name, " \t") {
				return nil, badLine(n, "is no field")
			}
			now = append(now, Field{string(name), string(bytes.TrimSpace(value))})
		}
	}
	if len(now) > 0 {
		all = append(all, now)
	}
	return all, nil
}

// ParseParagraph reads a control file of one paragraph.
func ParseParagraph(text []byte) (Paragraph, error) {
	all, err := parseParagraphs(text)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("control file of %d paragraphs: %w", len(all), errdefs.ErrInvalidArgument)
	}
	return all[0], nil
}

func badLine(n int, what string) error {
	return fmt.Errorf("control file: line %d %s: %w", n, what, errdefs.ErrInvalidArgument)
}
