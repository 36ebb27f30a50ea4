package treesum

import (
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
)

var patternTexts = []string{
	"**", "*", "**/*", "a", "a/b", "/a", "./a", "a/", "a/**", "a/*", "**/a", "**/a/**", "*.go", "**/*.go", "a/**/b", "a**b", "a*b*", "**a", "?",
	"a?c", "[a-c]", "[^a]", "a[bc]/d", `\*`, `a\*b`, `a\`, "a.b", "a+b", "(a)", "a|b", "{a}", "$", "^a", "a^b", "**/b/*.md", "*/*/c", "a/../b",
	"!a", "!a/b", "!**/*.go", "!*", " a ", "é*", "*é", "**/", "a/**/", "**/**", "a/**/c/**/e", "*/**", "**/*/**", "a**", "a**/b", "*a*/*b*",
	"vendor/**/*.go", "**/node_modules", "dir/sub/*.txt", "-", "a b", "[", "[]", "a]", "**.go", "b**/c",
}

var pathTexts = []string{
	"a", "b", "c", "a/b", "a/b/c", "a/x/b", "a/x/y/b", "ab", "axb", "abc", "main.go", "a/main.go", "a/b/main.go", "*", "a*b", `a\`, "a.b", "axb",
	"a+b", "(a)", "a|b", "{a}", "$", "^a", "é", "éa", "aé", "b/x.md", "a/b/x.md", "x/b/y.md", "node_modules", "x/node_modules", "x/node_modules/y",
	"dir/sub/f.txt", "dir/sub/x/f.txt", "vendor/a.go", "vendor/x/y/a.go", "-", "a b", "a/c/d/e", "a/b/c/d/e", ".go", "x/.go", "a/", "bc", "b/c",
}

// TestPatternsAsMoby matches each path against lists of patterns by both implementations, and through all directories above.
func TestPatternsAsMoby(t *testing.T) {
	for i, a := range patternTexts {
		for _, list := range [][]string{{a}, {a, patternTexts[(i*7+3)%len(patternTexts)], patternTexts[(i*11+5)%len(patternTexts)]}} {
			for _, p := range pathTexts {
				comparePatterns(t, list, p)
			}
		}
	}
}

func comparePatterns(t *testing.T, list []string, p string) {
	t.Helper()
	theirs, theirErr := patternmatcher.New(list)
	ours, err := compile(list)
	if theirErr == nil && err != nil {
		// They find out when they match.
		_, _, theirErr = theirs.MatchesUsingParentResults(p, patternmatcher.MatchInfo{})
		if theirErr == nil {
			t.Errorf("%q is refused: %v", list, err)
		}
		return
	}
	if (err == nil) != (theirErr == nil) {
		t.Errorf("%q: error %v, moby's %v", list, err, theirErr)
	}
	if err != nil || theirErr != nil || ours == nil {
		return
	}
	var info patternmatcher.MatchInfo
	var above bits
	at := ""
	for part := range strings.SplitSeq(p, "/") {
		at = path.Join(at, part)
		var want bool
		if want, info, err = theirs.MatchesUsingParentResults(at, info); err != nil {
			return
		}
		file, _ := ours.match(at, above, false)
		var got bool
		got, above = ours.match(at, above, true)
		if got != want || file != want {
			t.Fatalf("%q matches %q: %v, as a file %v; moby's: %v", list, at, got, file, want)
		}
	}
}

// TestMayMatchBelow must not leave out a directory in which something matches.
func TestMayMatchBelow(t *testing.T) {
	for _, text := range patternTexts {
		p, err := compile([]string{strings.TrimPrefix(text, "!")})
		if err != nil || p == nil {
			continue
		}
		for _, name := range pathTexts {
			dir := path.Dir(path.Clean(name))
			if ok, _ := p.match(path.Clean(name), nil, false); ok && dir != "." && !p.mayMatchBelow(dir, false) {
				t.Errorf("%q matches %q, but is said to match nothing in %q", text, name, dir)
			}
		}
	}
	p, err := compile([]string{"a/*/c", "x/y"})
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{"a": true, "a/b": true, "a/b/c": false, "b": false, "x": true, "x/y": false, "x/z": false} {
		if got := p.mayMatchBelow(dir, false); got != want {
			t.Errorf("something below %s may match: %v", dir, got)
		}
	}
}

func FuzzPatterns(f *testing.F) {
	f.Add("**/*.go\n!a", "a/b.go")
	f.Add("a**b\n*", "axb")
	f.Add("[a-z]*/\\*", "b/*")
	f.Fuzz(func(t *testing.T, texts, name string) {
		if strings.ContainsAny(name, "\x00\n") || name == "" || len(texts) > 200 || len(name) > 200 {
			return
		}
		comparePatterns(t, strings.Split(texts, "\n"), strings.Trim(path.Clean("/"+name), "/"))
	})
}
