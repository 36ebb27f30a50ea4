package manual

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Markdown makes the pages of docs/reference: one for each of root's commands, with those below it, and an index of them. Some
// commands are programs of their own: they take the place of what root knows of them.
func Markdown(root *cobra.Command, programs ...*cobra.Command) map[string]string {
	pages := map[string]string{}
	var b strings.Builder
	name := root.Name()
	fmt.Fprintf(&b, "# %s\n\n%s.\n\n", name, root.Short)
	b.WriteString("These pages are made from the commands themselves (`make reference`); `" + name + " COMMAND --help` says the same.\n\n")
	fmt.Fprintf(&b, "    %s\n\n", usage(root))
	writeOptions(&b, root)
	b.WriteString("\n| Command | |\n|---|---|\n")
	for _, c := range shown(root) {
		fmt.Fprintf(&b, "| [%s %s](%s.md) | %s |\n", name, c.Name(), dashed(c), c.Short)
		var page strings.Builder
		writeCommand(&page, c, 1)
		pages[dashed(c)+".md"] = page.String()
	}
	pages[name+".md"] = b.String()
	for _, c := range programs {
		var page strings.Builder
		writeCommand(&page, c, 1)
		pages[dashed(c)+".md"] = page.String()
	}
	return pages
}

// writeCommand writes a command and what is below it.
func writeCommand(b *strings.Builder, c *cobra.Command, level int) {
	fmt.Fprintf(b, "%s %s\n\n%s.\n\n    %s\n", strings.Repeat("#", level), c.CommandPath(), c.Short, usage(c))
	if c.Long != "" {
		b.WriteString("\n" + strings.TrimSpace(c.Long) + "\n")
	}
	if names := also(c); len(names) > 0 {
		b.WriteString("\nAlso called: `" + strings.Join(names, "`, `") + "`\n")
	}
	if len(options(c)) > 0 {
		b.WriteString("\n")
		writeOptions(b, c)
	}
	for _, s := range shown(c) {
		b.WriteString("\n")
		writeCommand(b, s, min(level+1, 4))
	}
}

// cell is text in a table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", ">", "&gt;").Replace(s)
}

func writeOptions(b *strings.Builder, c *cobra.Command) {
	b.WriteString("| Option | |\n|---|---|\n")
	for _, o := range options(c) {
		names := o.names
		if o.value != "" {
			names += " " + o.value
		}
		text := cell(o.text)
		if o.def != "" {
			text += " (default `" + cell(o.def) + "`)"
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", cell(names), text)
	}
}
