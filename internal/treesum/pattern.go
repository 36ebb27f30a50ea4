package treesum

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
)

// patterns are those of .dockerignore: what github.com/moby/patternmatcher makes of them, oddities included, which tests
// compare. They are matched for each file of a tree, so most are decided without a regular expression.
type patterns struct {
	list    []pattern
	negated bool // there are patterns with "!"
}

type pattern struct {
	text   string // cleaned, without "!"
	negate bool
	how    matching
	// A path that does not begin and end so need not be shown to the regular expression.
	prefix, suffix string
	re             *regexp.Regexp
}

type matching int

const (
	exact matching = iota
	byPrefix
	bySuffix
	byRegexp
)

// compile reads patterns; blank ones do not count.
func compile(texts []string) (*patterns, error) {
	p := new(patterns)
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		one := pattern{text: filepath.Clean(text)}
		if one.text[0] == '!' {
			if len(one.text) == 1 {
				return nil, fmt.Errorf("pattern %q excludes nothing from nothing: %w", text, errdefs.ErrInvalidArgument)
			}
			one.text, one.negate, p.negated = one.text[1:], true, true
		}
		if _, err := filepath.Match(one.text, "."); err != nil {
			return nil, fmt.Errorf("pattern %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
		}
		if err := one.compile(); err != nil {
			return nil, fmt.Errorf("pattern %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
		}
		p.list = append(p.list, one)
	}
	if len(p.list) == 0 {
		return nil, nil //nolint:nilnil // no patterns is a valid state, and methods know it
	}
	return p, nil
}

// compile decides how the pattern is matched. "**" takes any number of directories, and at the end of a pattern anything.
func (p *pattern) compile() error {
	var re strings.Builder
	re.WriteString("^")
	rest := []rune(p.text)
	for i := 0; len(rest) > 0; i++ {
		c := rest[0]
		rest = rest[1:]
		switch {
		case c == '*' && len(rest) > 0 && rest[0] == '*':
			rest = rest[1:]
			if len(rest) > 0 && rest[0] == '/' {
				rest = rest[1:]
			}
			switch {
			case len(rest) > 0:
				re.WriteString("(.*/)?")
				p.how = byRegexp
			case p.how == exact:
				p.how = byPrefix
			default:
				re.WriteString(".*")
				p.how = byRegexp
			}
			if i == 0 {
				p.how = bySuffix
			}
		case c == '*':
			re.WriteString("[^/]*")
			p.how = byRegexp
		case c == '?':
			re.WriteString("[^/]")
			p.how = byRegexp
		case c == '\\' && len(rest) > 0:
			re.WriteString(`\` + string(rest[0]))
			rest = rest[1:]
			p.how = byRegexp
		case c == '[' || c == ']':
			re.WriteRune(c)
			p.how = byRegexp
		case strings.ContainsRune(`.+()|{}$\`, c):
			re.WriteString(`\` + string(c))
		default:
			re.WriteRune(c)
		}
	}
	if p.how != byRegexp {
		return nil
	}
	p.prefix, p.suffix = literalEnds(p.text)
	var err error
	p.re, err = regexp.Compile(re.String() + "$")
	return err
}

// literalEnds are the parts before the first and behind the last special character of a pattern.
func literalEnds(text string) (prefix, suffix string) {
	const special = `*?[]\^`
	if strings.Contains(text, "**") && strings.HasSuffix(text, "*") || strings.ContainsAny(text, "[]\\^") {
		return "", ""
	}
	first, last := strings.IndexAny(text, special), strings.LastIndexAny(text, special)
	prefix, suffix = text[:first], text[last+1:]
	// "**/" may stand for nothing, so the slash behind it need not be there.
	if strings.HasSuffix(text[:last+1], "**") {
		suffix = strings.TrimPrefix(suffix, "/")
	}
	return prefix, suffix
}

func (p *pattern) match(path string) bool {
	switch p.how {
	case exact:
		return path == p.text
	case byPrefix:
		return strings.HasPrefix(path, p.text[:len(p.text)-2])
	case bySuffix:
		tail := p.text[2:]
		if tail == "" {
			return true
		}
		return strings.HasSuffix(path, tail) || tail[0] == '/' && path == tail[1:]
	}
	return strings.HasPrefix(path, p.prefix) && strings.HasSuffix(path, p.suffix) && p.re.MatchString(path)
}

// bits is a set of patterns by number.
type bits []uint64

func (b bits) has(i int) bool { return i>>6 < len(b) && b[i>>6]&(1<<(i&63)) != 0 }

// match says whether a path matches: the last pattern that fits decides. Patterns that matched the directory above, as
// above tells, fit what is in it too. The second result is above for what is in path.
func (p *patterns) match(path string, above bits, dir bool) (bool, bits) {
	var own bits
	if dir {
		own = make(bits, (len(p.list)+63)/64)
	}
	matched := false
	for i := range p.list {
		one := &p.list[i]
		if !above.has(i) && (one.negate != matched || !one.match(path)) {
			continue
		}
		matched = !one.negate
		if dir {
			own[i>>6] |= 1 << (i & 63)
		}
	}
	return matched, own
}

// mayMatchBelow says whether a pattern that is negated, or is not, may match something in the directory dir. Directories
// for which none does need not be read.
func (p *patterns) mayMatchBelow(dir string, negated bool) bool {
	for i := range p.list {
		if one := &p.list[i]; one.negate == negated && one.mayMatchBelow(dir) {
			return true
		}
	}
	return false
}

// mayMatchBelow compares component by component, as none of "*" and "?" goes beyond one; in doubt it may.
func (p *pattern) mayMatchBelow(dir string) bool {
	if strings.ContainsAny(p.text, `[]^\`) {
		return true
	}
	text, more := p.text, true
	for more {
		var want, have string
		want, text, _ = strings.Cut(text, "/")
		have, dir, more = strings.Cut(dir, "/")
		if strings.Contains(want, "**") {
			return true
		}
		if ok, err := filepath.Match(want, have); !ok && err == nil {
			return false
		}
		if text == "" {
			return false // shorter than anything in dir
		}
	}
	return true
}
