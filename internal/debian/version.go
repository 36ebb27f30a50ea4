package debian

import (
	"cmp"
	"strings"
)

// compareVersions orders versions as dpkg does (deb-version(7)): epoch, upstream version, revision.
func compareVersions(a, b string) int {
	ae, av, ar := splitVersion(a)
	be, bv, br := splitVersion(b)
	return cmp.Or(compareNumbers(ae, be), comparePart(av, bv), comparePart(ar, br))
}

func splitVersion(v string) (epoch, upstream, revision string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// comparePart compares runs of non-digits and runs of digits in turn.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		var at, bt string
		at, a = run(a, false)
		bt, b = run(b, false)
		if c := compareText(at, bt); c != 0 {
			return c
		}
		at, a = run(a, true)
		bt, b = run(b, true)
		if c := compareNumbers(at, bt); c != 0 {
			return c
		}
	}
	return 0
}

func run(s string, digits bool) (head, rest string) {
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// compareText has letters before other characters, and ~ before everything, even the end.
func compareText(a, b string) int {
	for i := 0; i < len(a) || i < len(b); i++ {
		var x, y int
		if i < len(a) {
			x = weight(a[i])
		}
		if i < len(b) {
			y = weight(b[i])
		}
		if x != y {
			return cmp.Compare(x, y)
		}
	}
	return 0
}

func weight(c byte) int {
	switch {
	case c == '~':
		return -1
	case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
		return int(c)
	}
	return int(c) + 256
}

// compareNumbers compares digits of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// satisfies says whether a version stands in a relation ("<<", "<=", "=", ">=", ">>") to another one. No relation is always
// satisfied.
func satisfies(version, op, other string) bool {
	c := compareVersions(version, other)
	switch op {
	case "":
		return true
	case "<<":
		return c < 0
	case "<=", "<": // as old control files mean it
		return c <= 0
	case "=":
		return c == 0
	case ">=", ">":
		return c >= 0
	case ">>":
		return c > 0
	}
	return false
}
