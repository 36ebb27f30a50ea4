package debian

import (
	"os/exec"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"1.0", "1.0", 0},
		{"1.0", "1.1", -1},
		{"1.10", "1.9", 1},
		{"1:0", "2", 1},
		{"0:1", "1", 0},
		{"1.0~rc1", "1.0", -1},
		{"1.0~~", "1.0~", -1},
		{"1.0-1", "1.0-2", -1},
		{"1.0", "1.0-1", -1},
		{"1.0-0", "1.0", 0},
		{"1.0a", "1.0+", -1},
		{"1.0+b1", "1.0", 1},
		{"1.2.3-1+deb12u1", "1.2.3-1", 1},
		{"00012", "12", 0},
		{"1.99999999999999999999", "1.100000000000000000000", -1},
		{"2-1-1", "2-1", 1},
		{"", "", 0},
		{"", "0", 0},
		{"a", "", 1},
		{"~", "", -1},
	} {
		if got := compareVersions(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := compareVersions(c.b, c.a); got != -c.want {
			t.Errorf("%s and %s: %d, want %d", c.b, c.a, got, -c.want)
		}
	}
}

func TestSatisfies(t *testing.T) {
	for _, c := range []struct {
		v, op, other string
		want         bool
	}{
		{"1", "", "", true},
		{"1", "<<", "2", true},
		{"2", "<<", "2", false},
		{"2", "<=", "2", true},
		{"2", "=", "2", true},
		{"2", ">=", "3", false},
		{"3", ">>", "2", true},
		{"3", ">", "3", true},
		{"3", "~", "3", false},
	} {
		if got := satisfies(c.v, c.op, c.other); got != c.want {
			t.Errorf("%s %s %s: %v", c.v, c.op, c.other, got)
		}
	}
}

// dpkg is asked what it thinks.
func FuzzCompareVersions(f *testing.F) {
	for _, c := range [][2]string{{"1:2.3-4", "1:2.3~5-4"}, {"1.0+dfsg-1", "1.0-1"}, {"a.1", "1.a"}} {
		f.Add(c[0], c[1])
	}
	program, err := exec.LookPath("dpkg")
	f.Fuzz(func(t *testing.T, a, b string) {
		c := compareVersions(a, b)
		if compareVersions(b, a) != -c || compareVersions(a, a) != 0 {
			t.Errorf("%q, %q: not an order", a, b)
		}
		if err != nil || !goodVersion(a) || !goodVersion(b) || !isDigit(a[0]) || !isDigit(b[0]) {
			return
		}
		op := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[c]
		out, derr := exec.Command(program, "--compare-versions", a, op, b).CombinedOutput()
		if derr != nil && len(out) == 0 {
			t.Errorf("dpkg does not say %s %s %s", a, op, b)
		}
	})
}
