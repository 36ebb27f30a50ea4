package cli

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// treeNode is a layer on all that lies below it, and what lies on it.
type treeNode struct {
	step     layerStep
	names    []string // of the images that end here
	children []*treeNode
	size     int64 // of the images that end here
}

// forest joins images by the layers that they begin with. Images without a name are left out unless all are wanted.
func forest(list []layeredImage, all bool) *treeNode {
	root := &treeNode{}
	for i := range list {
		one := &list[i]
		names := one.Names
		if len(names) == 0 {
			if !all {
				continue
			}
			names = []string{shortID(one.ID)}
		}
		n := root
		for _, s := range one.Steps {
			if s.Layer != "" {
				n = n.child(s)
			}
		}
		n.names, n.size = append(n.names, names...), one.Size
	}
	root.sort()
	return root
}

func (n *treeNode) child(s layerStep) *treeNode {
	for _, c := range n.children {
		if c.step.Layer == s.Layer {
			return c
		}
	}
	c := &treeNode{step: s}
	n.children = append(n.children, c)
	return c
}

func (n *treeNode) sort() {
	slices.Sort(n.names)
	slices.SortStableFunc(n.children, func(a, b *treeNode) int { return strings.Compare(a.first(), b.first()) })
	for _, c := range n.children {
		c.sort()
	}
}

// first is the first name among the images on a layer.
func (n *treeNode) first() string {
	if len(n.names) > 0 {
		return n.names[0]
	}
	least := ""
	for _, c := range n.children {
		if f := c.first(); least == "" || f != "" && f < least {
			least = f
		}
	}
	return least
}

// forestPicture draws all images as a tree of the layers that they share.
func forestPicture(list []layeredImage, all bool, width int) string {
	root := forest(list, all)
	type line struct{ left, names string }
	var lines []line
	var images, layers int
	var disk, whole int64
	add := func(indent string, n *treeNode) {
		names := ""
		if len(n.names) > 0 {
			names = fmt.Sprintf("%s (%s)", strings.Join(n.names, ", "), humanSize(n.size))
			images += len(n.names)
			whole += n.size
		}
		lines = append(lines, line{fmt.Sprintf("%s%-6s  %s", indent, humanSize(n.step.Size), instruction(&n.step)), names})
		layers++
		disk += n.step.Size
	}
	var walk func(n *treeNode, indent string)
	walk = func(n *treeNode, indent string) {
		for i, c := range n.children {
			branch, below := "├─ ", "│  "
			if i == len(n.children)-1 {
				branch, below = "└─ ", "   "
			}
			if n == root {
				branch, below = "", ""
			}
			add(indent+branch, c)
			// What has one thing on it, and is no image itself, is one pile with it.
			for len(c.names) == 0 && len(c.children) == 1 {
				c = c.children[0]
				add(indent+below, c)
			}
			walk(c, indent+below)
		}
	}
	walk(root, "")
	right := 0
	for _, l := range lines {
		right = max(right, utf8.RuneCountInString(l.names))
	}
	right = min(right, width/2)
	var b strings.Builder
	for _, l := range lines {
		left := max(width-right-2, 20)
		if l.names == "" {
			left = width
		}
		text := ellipsis(l.left, left)
		if l.names != "" {
			widest := max(min(width-right-2, 70), 20)
			text = fmt.Sprintf("%-*s  %s", min(left, widest), ellipsis(l.left, min(left, widest)), l.names)
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	if images == 0 {
		return "There are no images with layers."
	}
	fmt.Fprintf(&b, "\n%s, %s: %s", counted(images, "image"), counted(layers, "layer"), humanSize(disk))
	if whole > disk {
		fmt.Fprintf(&b, " (%s if nothing were shared)", humanSize(whole))
	}
	return b.String()
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// imagePicture draws one image as a pile of layers, the newest on top.
func imagePicture(one *layeredImage, all bool, width int) string {
	var b strings.Builder
	layers, largest := 0, int64(1)
	for _, s := range one.Steps {
		if s.Layer != "" {
			layers++
			largest = max(largest, s.Size)
		}
	}
	name := shortID(one.ID)
	if len(one.Names) > 0 {
		name = strings.Join(one.Names, ", ")
	}
	fmt.Fprintf(&b, "%s: %s in %s", name, humanSize(one.Size), counted(layers, "layer"))
	if one.Wasted > 0 {
		fmt.Fprintf(&b, ", %s of it wasted", humanSize(one.Wasted))
	}
	b.WriteString("\n")
	inner := max(min(width, 110)-4, 36)
	if width > 1<<15 {
		inner = widestStep(one)
	}
	rule := strings.Repeat("─", inner+2)
	edge := "┌" + rule + "┐\n"
	for _, s := range slices.Backward(one.Steps) {
		if s.Layer == "" && !all {
			continue
		}
		b.WriteString(edge)
		for _, l := range stepLines(&s, inner, largest) {
			b.WriteString("│ " + l + strings.Repeat(" ", max(inner-utf8.RuneCountInString(l), 0)) + " │\n")
		}
		edge = "├" + rule + "┤\n"
	}
	if layers > 0 {
		b.WriteString("└" + rule + "┘\n")
	}
	return b.String()
}

func widestStep(one *layeredImage) int {
	widest := 72
	for _, s := range one.Steps {
		widest = max(widest, utf8.RuneCountInString(instruction(&s))+24)
	}
	return widest
}

// stepLines are a layer's lines: the instruction with the size and its share as a bar, what it added, and what was wasted.
func stepLines(s *layerStep, inner int, largest int64) []string {
	const bar = 10
	right := ""
	if s.Layer != "" {
		full := int(s.Size * bar / largest)
		right = fmt.Sprintf("%8s %s", humanSize(s.Size), strings.Repeat("█", full)+strings.Repeat("░", bar-full))
	}
	room := inner - utf8.RuneCountInString(right) - 2
	left := ellipsis(instruction(s), room)
	lines := []string{left + strings.Repeat(" ", room-utf8.RuneCountInString(left)+2) + right}
	if s.Layer == "" {
		return lines
	}
	added := counted(s.Files, "file")
	if s.Removed > 0 {
		added += fmt.Sprintf(", %d removed", s.Removed)
	}
	if len(s.Added) > 0 {
		added += ": " + paths(s.Added, 3)
	}
	lines = append(lines, ellipsis("  "+added, inner))
	if s.Wasted > 0 {
		lines = append(lines, ellipsis(fmt.Sprintf("  %s wasted, overwritten or removed later: %s", humanSize(s.Wasted), paths(s.Waste, 2)), inner))
	}
	return lines
}

func paths(list []pathSize, most int) string {
	var parts []string
	for i, p := range list {
		if i == most {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, stripControl(p.Path)+" "+humanSize(p.Size))
	}
	return strings.Join(parts, ", ")
}
