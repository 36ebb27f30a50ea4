// Package typo finds what a person may have meant: the known names that are nearest to the one that was written.
package typo

import (
	"slices"
	"strings"
)

// longest is how many letters of a name are compared.
const longest = 100

// Distance counts the insertions, deletions, changes and swaps of neighbours that lead from a to b (the restricted
// Damerau-Levenshtein distance). Beyond most it stops counting and returns a larger number.
func Distance(a, b string, most int) int {
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
	if d := len(a) - len(b); d > most || -d > most {
		return most + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Nearest returns the known name that differs least from word, or "" when none is near: a quarter of its letters may differ,
// two at most. A name that only goes on where word ends is one slip away. Of a word of two letters the first has to be right, or
// the two have changed places.
func Nearest(word string, known []string) string {
	best, most := "", min(max(len(word)/4, 1), 2)
	if len(word) < 2 {
		return ""
	}
	for _, k := range known {
		if k == "" || k == word || len(word) == 2 && !nearPair(word, k) {
			continue
		}
		d := Distance(strings.ToLower(word), strings.ToLower(k), most)
		if strings.HasPrefix(k, word) {
			d = 1
		}
		if d <= most && (best == "" || d < most) {
			best, most = k, d
		}
	}
	return best
}

// nearPair is stricter, for a change of one of two letters is a change of half the word: the first one stays, or they
// change places.
func nearPair(word, k string) bool {
	return word[0] == k[0] || len(k) == 2 && word[0] == k[1] && word[1] == k[0]
}

// Rank returns the n known names nearest to word, the nearest first, however far they are.
func Rank(word string, known []string, n int) []string {
	ranked := slices.Clone(known)
	slices.SortStableFunc(ranked, func(a, b string) int { return Distance(word, a, longest) - Distance(word, b, longest) })
	return ranked[:min(n, len(ranked))]
}
