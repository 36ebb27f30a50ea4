package debian

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// AptConf is apt's configuration (apt.conf(5)): values by names in lower case, the last one counts.
type AptConf map[string]string

// Get is a value; empty if it is not set.
func (c AptConf) Get(name string) string { return c[strings.ToLower(name)] }

// Read adds what a file says.
func (c AptConf) Read(text string) error {
	words, err := confWords(text)
	if err != nil {
		return err
	}
	var scopes []string // of each open brace
	var now []string
	for _, w := range words {
		switch w {
		case "{":
			scope := strings.Join(now, "::")
			if len(scopes) > 0 && scopes[len(scopes)-1] != "" {
				scope = scopes[len(scopes)-1] + "::" + scope
			}
			scopes, now = append(scopes, scope), nil
		case "}":
			if len(scopes) == 0 {
				return fmt.Errorf("apt configuration: a brace too many: %w", errdefs.ErrInvalidArgument)
			}
			scopes, now = scopes[:len(scopes)-1], nil
		case ";":
			if len(now) > 1 && !strings.HasPrefix(now[0], "#") {
				name := now[0]
				if len(scopes) > 0 && scopes[len(scopes)-1] != "" {
					name = scopes[len(scopes)-1] + "::" + name
				}
				c[strings.ToLower(name)] = strings.TrimPrefix(now[len(now)-1], "\x00")
			}
			now = nil
		default:
			now = append(now, w)
		}
	}
	return nil
}

// confWords splits a configuration; values in quotes have a zero byte before them, so that they are no punctuation.
func confWords(text string) ([]string, error) {
	var words []string
	for text = strings.TrimLeft(text, " \t\r\n"); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		switch {
		case strings.HasPrefix(text, "//"), text[0] == '#' && !strings.HasPrefix(text, "#clear") && !strings.HasPrefix(text, "#include"):
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			var ok bool
			if _, text, ok = strings.Cut(text, "*/"); !ok {
				return nil, fmt.Errorf("apt configuration: a comment without an end: %w", errdefs.ErrInvalidArgument)
			}
		case strings.ContainsRune("{};", rune(text[0])):
			words, text = append(words, text[:1]), text[1:]
		case text[0] == '"':
			value, rest, ok := strings.Cut(text[1:], `"`)
			if !ok {
				return nil, fmt.Errorf("apt configuration: a value without an end: %w", errdefs.ErrInvalidArgument)
			}
			words, text = append(words, "\x00"+value), rest
		default:
			end := strings.IndexAny(text, " \t\r\n{};\"")
			if end < 0 {
				end = len(text)
			}
			words, text = append(words, text[:end]), text[end:]
		}
	}
	return words, nil
}

// Login is a user's name and password for a host.
type Login struct{ User, Password string }

// authEntry is an entry of apt's auth.conf.
type authEntry struct {
	scheme, host, path string
	Login
}

// Auth are the entries of apt's auth.conf files (apt_auth.conf(5)).
type Auth []authEntry

// Read adds what a file says: machine [SCHEME://]HOST[:PORT][/PATH] login USER password WORD.
func (a *Auth) Read(text string) {
	var now *authEntry
	key := ""
	for _, w := range strings.Fields(stripComments(text)) {
		switch {
		case key == "":
			key = w
			continue
		case key == "machine":
			*a = append(*a, authEntry{})
			now = &(*a)[len(*a)-1]
			rest := w
			if scheme, after, ok := strings.Cut(w, "://"); ok {
				now.scheme, rest = scheme, after
			}
			now.host, now.path, _ = strings.Cut(rest, "/")
		case now != nil && key == "login":
			now.User = w
		case now != nil && key == "password":
			now.Password = w
		}
		key = ""
	}
}

func stripComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Find is the login for an address. Without a scheme, an entry is for https only: a password does not go out in the clear
// unless it is said so.
func (a Auth) Find(scheme, host, path string) (Login, bool) {
	for _, e := range a {
		if e.host != host || e.scheme != "" && e.scheme != scheme || e.scheme == "" && scheme != "https" {
			continue
		}
		if strings.HasPrefix(strings.TrimPrefix(path, "/")+"/", strings.TrimSuffix(e.path, "/")+"/") || e.path == "" {
			return e.Login, true
		}
	}
	return Login{}, false
}
