package cli

import (
	"strings"
	"unicode/utf8"
)

const (
	// columnGap is what newTable puts between columns, and columnLeast how narrow it makes one.
	columnGap, columnLeast = 3, 10
)

// fitTable shortens the cells of the widest columns until a table, of lines with tabs between the cells, is not wider than a
// terminal. Identifiers stay whole: they are there to be copied.
func fitTable(text string, cols int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	table := make([][]string, len(lines))
	var widths []int
	for i, l := range lines {
		table[i] = strings.Split(l, "\t")
		for j, cell := range table[i] {
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], utf8.RuneCountInString(cell))
		}
	}
	limits := fitColumns(table[0], widths, cols)
	if limits == nil {
		return text
	}
	var b strings.Builder
	for i, row := range table {
		for j, cell := range row {
			if j > 0 {
				b.WriteByte('\t')
			}
			if i > 0 {
				cell = ellipsis(cell, limits[j])
			}
			b.WriteString(cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// fitColumns returns how wide each column may be; nil if all fit, or if they cannot be made to.
func fitColumns(titles []string, widths []int, cols int) []int {
	limits := append([]int{}, widths...)
	total := 0
	for j, w := range widths {
		if total += w; j < len(widths)-1 { // the last one has nothing to its right
			total += max(columnGap, columnLeast-w)
		}
	}
	if total <= cols {
		return nil
	}
	for total > cols {
		widest := -1
		for j := range limits {
			title := ""
			if j < len(titles) {
				title = titles[j]
			}
			if strings.HasSuffix(title, "ID") || limits[j] <= max(columnLeast, utf8.RuneCountInString(title)) {
				continue
			}
			if widest < 0 || limits[j] > limits[widest] {
				widest = j
			}
		}
		if widest < 0 {
			return nil
		}
		limits[widest]--
		total--
	}
	return limits
}
