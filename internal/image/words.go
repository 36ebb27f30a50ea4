package image

import (
	"fmt"
	"strings"
)

// splitWords splits a line as a Dockerfile's instructions do: at blanks outside of quotes, with $variable and ${variable}
// replaced outside of single quotes. A backslash takes the next letter as it is.
func splitWords(line string, env []string) ([]string, error) {
	w := &wordReader{rest: line, env: env}
	var words []string
	for {
		w.rest = strings.TrimLeft(w.rest, " \t")
		if w.rest == "" {
			return words, nil
		}
		word, err := w.word()
		if err != nil {
			return nil, err
		}
		words = append(words, word)
	}
}

type wordReader struct {
	rest string
	env  []string
}

// word reads up to the next blank.
func (w *wordReader) word() (string, error) {
	var b strings.Builder
	for w.rest != "" {
		c := w.rest[0]
		switch c {
		case ' ', '\t':
			return b.String(), nil
		case '\'', '"':
			if err := w.quoted(&b, c); err != nil {
				return "", err
			}
		case '\\':
			if len(w.rest) > 1 {
				b.WriteByte(w.rest[1])
				w.rest = w.rest[2:]
			} else {
				w.rest = ""
			}
		case '$':
			if err := w.variable(&b); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
			w.rest = w.rest[1:]
		}
	}
	return b.String(), nil
}

func (w *wordReader) quoted(b *strings.Builder, quote byte) error {
	w.rest = w.rest[1:]
	for w.rest != "" {
		c := w.rest[0]
		switch {
		case c == quote:
			w.rest = w.rest[1:]
			return nil
		case c == '\\' && quote == '"' && len(w.rest) > 1 && strings.IndexByte(`"$\`, w.rest[1]) >= 0:
			b.WriteByte(w.rest[1])
			w.rest = w.rest[2:]
		case c == '$' && quote == '"':
			if err := w.variable(b); err != nil {
				return err
			}
		default:
			b.WriteByte(c)
			w.rest = w.rest[1:]
		}
	}
	return fmt.Errorf("unexpected end of statement while looking for matching %c", quote)
}

// variable reads $name, ${name}, ${name:-word} or ${name:+word}.
func (w *wordReader) variable(b *strings.Builder) error {
	s := w.rest[1:]
	if !strings.HasPrefix(s, "{") {
		n := nameLength(s)
		if n == 0 {
			b.WriteByte('$')
		} else {
			value, _ := w.lookup(s[:n])
			b.WriteString(value)
		}
		w.rest = s[n:]
		return nil
	}
	body, after, ok := strings.Cut(s[1:], "}")
	n := nameLength(body)
	if !ok || n == 0 {
		return fmt.Errorf("unsupported variable: $%s", s)
	}
	name, modifier := body[:n], body[n:]
	value, set := w.lookup(name)
	switch {
	case modifier == "":
	case strings.HasPrefix(modifier, ":-"):
		if value == "" {
			value = modifier[2:]
		}
	case strings.HasPrefix(modifier, ":+"):
		if set && value != "" {
			value = modifier[2:]
		} else {
			value = ""
		}
	default:
		return fmt.Errorf("unsupported modifier in ${%s}", body)
	}
	b.WriteString(value)
	w.rest = after
	return nil
}

func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

func (w *wordReader) lookup(name string) (string, bool) {
	for i := len(w.env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(w.env[i], "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}
