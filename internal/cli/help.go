package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// help prints a command's usage, flags and commands.
func (a *app) help(c *cobra.Command, _ []string) {
	var b strings.Builder
	if !c.HasParent() {
		a.rootHelp(&b)
	} else {
		a.commandHelp(&b, c)
	}
	// A closed standard output ends the program by itself.
	_, _ = a.out.Write([]byte(b.String()))
}

func (a *app) rootHelp(b *strings.Builder) {
	b.WriteString("Usage: kist [OPTIONS] COMMAND\n\nRuns applications from images as isolated processes.\n")
	entries := a.entries()
	for _, heading := range []string{headCommon, headGroup, headOther} {
		b.WriteString("\n" + heading + ":\n")
		for _, e := range entries {
			if e.heading == heading && !e.hidden {
				fmt.Fprintf(b, "  %-12s%s\n", e.names[0], e.short)
			}
		}
	}
	b.WriteString("\nOptions:\n" + a.globalFlags().FlagUsagesWrapped(a.helpWidth()))
	b.WriteString("\n\"kist COMMAND --help\" says more about a command.\n")
}

func (a *app) commandHelp(b *strings.Builder, c *cobra.Command) {
	use := c.CommandPath() + restOf(c.Use)
	if c.HasAvailableSubCommands() {
		use += " COMMAND"
	}
	b.WriteString("Usage: " + use + "\n\n" + c.Short + ".\n")
	if c.Long != "" {
		b.WriteString("\n" + c.Long + "\n")
	}
	if len(c.Aliases) > 0 {
		parent := strings.TrimSuffix(c.CommandPath(), c.Name())
		b.WriteString("\nAlso called: " + parent + strings.Join(c.Aliases, ", "+parent) + "\n")
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, s := range c.Commands() {
			if s.IsAvailableCommand() && !s.Hidden {
				fmt.Fprintf(b, "  %-12s%s\n", s.Name(), s.Short)
			}
		}
	}
	if c.Flags().HasAvailableFlags() {
		b.WriteString("\nOptions:\n" + c.Flags().FlagUsagesWrapped(a.helpWidth()))
	}
}

// helpWidth is the width that flags are wrapped at; 0 does not wrap.
func (a *app) helpWidth() int {
	if _, cols, ok := terminalSize(a.out); ok {
		return cols
	}
	return 0
}
