package registry

import (
	"net/http"
	"strings"
)

// challenge is what a server wants to see before it answers (RFC 9110, WWW-Authenticate); the zero value is nothing.
type challenge struct {
	scheme string // "basic" or "bearer"
	params map[string]string
}

// parseChallenge picks what this client can do: Bearer before Basic.
func parseChallenge(h http.Header) (challenge, bool) {
	var best challenge
	for _, line := range h.Values("WWW-Authenticate") {
		for line != "" {
			var c challenge
			c, line = nextChallenge(line)
			if c.scheme == "bearer" && c.params["realm"] != "" || c.scheme == "basic" && best.scheme == "" {
				best = c
			}
		}
	}
	return best, best.scheme != ""
}

// nextChallenge reads one scheme with its parameters; what follows belongs to the next.
func nextChallenge(s string) (challenge, string) {
	s = strings.TrimLeft(s, " \t,")
	scheme, rest := cutToken(s)
	if scheme == "" {
		return challenge{}, ""
	}
	c := challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
	for {
		rest = strings.TrimLeft(rest, " \t,")
		name, after := cutToken(rest)
		after = strings.TrimLeft(after, " \t")
		if name == "" || !strings.HasPrefix(after, "=") {
			return c, rest // the next challenge, or the end
		}
		var value string
		value, rest = paramValue(strings.TrimLeft(after[1:], " \t"))
		c.params[strings.ToLower(name)] = value
	}
}

// tokenLetters are what RFC 9110 makes tokens of.
const tokenLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

// cutToken cuts a token off s.
func cutToken(s string) (string, string) {
	rest := strings.TrimLeft(s, tokenLetters)
	return s[:len(s)-len(rest)], rest
}

// paramValue cuts a token or a quoted string off s.
func paramValue(s string) (string, string) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, ", \t")
		if i < 0 {
			return s, ""
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
