package typo

import (
	"slices"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		most int
		want int
	}{
		{"", "", 3, 0},
		{"run", "run", 3, 0},
		{"rnu", "run", 3, 1},
		{"rn", "run", 3, 1},
		{"ruun", "run", 3, 1},
		{"ran", "run", 3, 1},
		{"kitten", "sitting", 5, 3},
		{"kitten", "sitting", 0, 1},
		{"a", "abcdef", 2, 3},
	} {
		if got := Distance(tc.a, tc.b, tc.most); got != tc.want {
			t.Errorf("Distance(%q, %q, %d) = %d, want %d", tc.a, tc.b, tc.most, got, tc.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"webserver", "database", "sh", "cat", "python3", "logs", ""}
	for word, want := range map[string]string{
		"websrever": "webserver", "databse": "database", "python": "python3", "Databse": "database", "lgos": "logs", "log": "logs",
		"x": "", "webserver2": "webserver", "entirely": "", "cat": "",
		"hs": "sh", "sj": "sh", "ah": "", "s": "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestRank(t *testing.T) {
	known := []string{"12", "bookworm", "bullseye", "book"}
	if got := Rank("bookwrom", known, 2); !slices.Equal(got, []string{"bookworm", "book"}) {
		t.Errorf("%v", got)
	}
	if got := Rank("x", known, 9); len(got) != 4 {
		t.Errorf("%v", got)
	}
	if known[0] != "12" {
		t.Error("the known names were sorted in place")
	}
}
