package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
)

// listing is how a list of rows is printed.
type listing struct {
	// format is what --format said: "", "table", "json", "raw", "table TEMPLATE" or a template.
	format string
	// table is the template of the table.
	table string
	// quiet is the template of -q; set only when -q was given.
	quiet string
	// headers name the columns by field.
	headers headers
	// whole says that nothing is to be shortened, --no-trunc: otherwise a table fits the terminal that it is printed on.
	whole bool
	// raw is the template of --format raw.
	raw string
}

// headers are the titles of a table's columns. In a table's template they stand in the place of a row.
type headers map[string]string

// Label returns the title of a column that shows one label: the last word of its name, as docker makes it.
func (headers) Label(name string) string {
	if i := strings.LastIndexAny(name, ".-"); i >= 0 {
		name = name[i+1:]
	}
	return name
}

// template returns the template of a row and whether rows are columns of a table.
func (l *listing) template() (text string, table bool) {
	format := l.format
	switch {
	case format == "" || format == "table":
		if l.quiet != "" {
			return l.quiet, false
		}
		return l.table, true
	case format == "raw" && l.raw != "":
		if l.quiet != "" {
			return l.quiet, false
		}
		return l.raw, false
	case format == "json":
		return "{{json .}}", false
	case strings.HasPrefix(format, "table"): // docker does without the space, too
		return strings.TrimSpace(strings.TrimPrefix(format, "table")), true
	}
	return format, false
}

// uses tells whether the printed rows hold a field.
func (l *listing) uses(field string) bool {
	text, _ := l.template()
	return strings.Contains(text, field) || l.format == "json"
}

// printRows prints rows as the listing wants them.
func printRows[T any](w io.Writer, l *listing, rows []T) error {
	text, table := l.template()
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if !table {
		for _, r := range rows {
			if err := t.Execute(&b, r); err != nil {
				return templateError(err)
			}
			b.WriteByte('\n')
		}
		_, err := b.WriteTo(w)
		return err
	}
	if err := headerTemplate(t, text).Execute(&b, l.headers); err != nil {
		return templateError(err)
	}
	b.WriteByte('\n')
	for _, r := range rows {
		if err := t.Execute(&b, r); err != nil {
			return templateError(err)
		}
		b.WriteByte('\n')
	}
	cells := b.String()
	if _, cols, ok := terminalSize(w); ok && !l.whole && (l.format == "" || l.format == "table") {
		cells = fitTable(cells, cols)
	}
	b.Reset()
	tw := newTable(&b)
	if _, err := io.WriteString(tw, cells); err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err = b.WriteTo(w)
	return err
}

// newTable aligns columns as docker does.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) }

func templateError(err error) error { return fmt.Errorf("fill in the template: %w", err) }

// parseTemplate reads a template. \t and \n stand for a tab and a line end.
func parseTemplate(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("").Funcs(templateFuncs).Parse(text)
	if err != nil {
		return nil, &exitError{code: 64, err: fmt.Errorf("--format cannot be read as a template: %w", err)}
	}
	return t, nil
}

var templateFuncs = template.FuncMap{
	"json":     toJSON,
	"split":    strings.Split,
	"join":     join,
	"title":    title,
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"pad":      pad,
	"truncate": truncate,
}

// headerTemplate is the template for the title row: functions on values leave a title as it is.
func headerTemplate(t *template.Template, _ string) *template.Template {
	same := func(s string) string { return s }
	c, err := t.Clone()
	if err != nil {
		return t // only an executed html template cannot be cloned
	}
	return c.Funcs(template.FuncMap{
		"json": same, "title": same, "lower": same, "upper": same,
		"split":    func(s, _ string) string { return s },
		"join":     func(s, _ string) string { return s },
		"truncate": func(s string, _ int) string { return s },
	})
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// join puts the elements of a list between separators: of strings, or of what JSON has in place of them.
func join(list any, sep string) (string, error) {
	if list == nil {
		return "", nil
	}
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return "", fmt.Errorf("join takes a list, not %T", list)
	}
	words := make([]string, v.Len())
	for i := range words {
		words[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(words, sep), nil
}

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
}

func truncate(s string, n int) string {
	r := []rune(s)
	if n < 0 || len(r) <= n {
		return s
	}
	return string(r[:n])
}

// ellipsis shortens s to n characters, the last one of which says so.
func ellipsis(s string, n int) string {
	r := []rune(s)
	if n <= 0 || len(r) <= n {
		return s
	}
	if n == 1 {
		return "…"
	}
	return string(r[:n-1]) + "…"
}

// shortID is the part of an id that is shown.
func shortID(id string) string {
	_, hex, ok := strings.Cut(id, ":")
	if !ok {
		hex = id
	}
	if len(hex) > 12 {
		return hex[:12]
	}
	return hex
}

// stripControl makes text from elsewhere safe for a terminal's table.
func stripControl(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
