package cli

import "strings"

// nearest returns the candidate that differs least from name, or "" when none is near.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", len(name)/3+1
	if len(name) <= 2 {
		bestDistance = 1
	}
	for _, c := range candidates {
		if c == "" || c == name {
			continue
		}
		d := distance(strings.ToLower(name), strings.ToLower(c), bestDistance)
		if len(name) >= 3 && strings.HasPrefix(c, name) {
			d = min(d, 1)
		}
		if d < bestDistance || d == bestDistance && best == "" {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts the insertions, removals, changes and swaps of neighbours between a and b, and gives up above most.
func distance(a, b string, most int) int {
	if d := len(a) - len(b); d > most || -d > most {
		return most + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
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
