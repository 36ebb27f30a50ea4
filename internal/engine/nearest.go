package engine

// nearest returns the candidate that is a slip of the pen away from word, or nothing.
func nearest(word string, candidates []string) string {
	best, at := "", min(len(word)/4, 2)
	if at == 0 {
		return ""
	}
	for _, c := range candidates {
		if d := distance(word, c, at); d <= at && (best == "" || d < at) {
			best, at = c, d
		}
	}
	return best
}

// distance counts the insertions, deletions, changes and swaps of neighbours that lead from a to b; beyond limit it
// stops counting.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
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
