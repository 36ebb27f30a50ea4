package manual

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Origin is what stands at the foot of a man page.
type Origin struct {
	Version string
	// Date of the version. Nothing else is dated, so that equal sources make equal pages.
	Date time.Time
}

// Man makes the man pages of programs in section 1: one for each, and one for each of its commands. What a later one says of a
// command counts.
func Man(o Origin, roots ...*cobra.Command) map[string]string {
	pages := map[string]string{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		pages[dashed(c)+".1"] = page(c, o)
		for _, s := range shown(c) {
			walk(s)
		}
	}
	for _, root := range roots {
		walk(root)
	}
	return pages
}

// roff escapes text.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func page(c *cobra.Command, o Origin) string {
	var b strings.Builder
	heading(&b, dashed(c), 1, o)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(dashed(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(usage(c)))
	for _, name := range also(c) {
		fmt.Fprintf(&b, ".br\n.B %s\n", roff(name))
	}
	if c.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(strings.TrimSpace(c.Long)))
	}
	if list := options(c); len(list) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, o := range list {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR", roff(o.names))
			if o.value != "" {
				fmt.Fprintf(&b, " \\fI%s\\fR", roff(o.value))
			}
			fmt.Fprintf(&b, "\n%s\n", roff(o.text))
			if o.def != "" {
				fmt.Fprintf(&b, "(default %s)\n", roff(o.def))
			}
		}
	}
	if list := shown(c); len(list) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, s := range list {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR(1)\n%s\n", roff(dashed(s)), roff(s.Short))
		}
	}
	see(&b, c)
	return b.String()
}

func heading(b *strings.Builder, name string, section int, o Origin) {
	fmt.Fprintf(b, ".TH %s %d %q %q \"kist\"\n.nh\n.ad l\n", strings.ToUpper(roff(name)), section, o.Date.UTC().Format("2006-01-02"), "kist "+o.Version)
}

func see(b *strings.Builder, c *cobra.Command) {
	var list []string
	if c.HasParent() {
		list = append(list, fmt.Sprintf("\\fB%s\\fR(1)", roff(dashed(c.Parent()))))
	}
	list = append(list, `\fBkistd\fR(8)`)
	b.WriteString(".SH SEE ALSO\n" + strings.Join(list, ", ") + "\n")
}

// Daemon makes the man page of the daemon from what it says of its flags.
func Daemon(help string, o Origin) string {
	var b strings.Builder
	heading(&b, "kistd", 8, o)
	b.WriteString(".SH NAME\nkistd \\- kist's daemon: images, networks, containers' lives and the API\n")
	b.WriteString(".SH SYNOPSIS\n.B kistd [OPTIONS]\n.br\n.B kistd doctor [OPTIONS]\n.SH DESCRIPTION\n" +
		"The first command of \\fBkist\\fR(1) that finds no daemon starts one. It may die at any time: containers go on, and the next\n" +
		"daemon takes them over. SIGTERM ends it, and leaves containers running.\n")
	fmt.Fprintf(&b, ".SH OPTIONS\n.nf\n%s\n.fi\n", roff(strings.TrimRight(flagsOf(help), "\n")))
	b.WriteString(".SH FILES\n.TP\n/etc/kist/daemon.json\nits configuration, with the keys of dockerd's\n.TP\n/var/lib/kist\nimages, volumes, containers\n" +
		".TP\n/run/kist/kist.sock\nwhere it listens\n.SH SEE ALSO\n\\fBkist\\fR(1)\n")
	return b.String()
}

// flagsOf is the part of a program's help that lists flags.
func flagsOf(help string) string {
	lines := strings.Split(help, "\n")
	for i, l := range lines {
		if strings.HasPrefix(strings.TrimSpace(l), "-") {
			return strings.Join(lines[i:], "\n")
		}
	}
	return help
}

// DaemonMarkdown is the page of the daemon in docs/reference.
func DaemonMarkdown(help string) string {
	return "# kistd\n\nThe daemon: images, networks, containers' lives and the API. The first command that finds none starts it.\n\n" +
		"Made from `kistd --help` (`make reference`). The keys of `/etc/kist/daemon.json` are dockerd's.\n\n```\n" +
		strings.TrimRight(flagsOf(help), "\n") + "\n```\n"
}
