package manual

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// shown lists a command's commands that are for people, by name.
func shown(c *cobra.Command) []*cobra.Command {
	list := slices.DeleteFunc(slices.Clone(c.Commands()), func(s *cobra.Command) bool {
		return s.Hidden || !s.IsAvailableCommand() || s.Name() == "help"
	})
	slices.SortFunc(list, func(a, b *cobra.Command) int { return cmp.Compare(a.Name(), b.Name()) })
	return list
}

// dashed is a command's name as a file is called: kist-image-build.
func dashed(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// usage is how a command is called.
func usage(c *cobra.Command) string {
	_, rest, _ := strings.Cut(c.Use, " ")
	if rest == "" && len(shown(c)) > 0 {
		rest = "[OPTIONS] COMMAND"
	}
	return strings.TrimSpace(c.CommandPath() + " " + rest)
}

// also lists what else a command is called.
func also(c *cobra.Command) []string {
	parent := strings.TrimSuffix(c.CommandPath(), c.Name())
	var list []string
	for _, a := range c.Aliases {
		list = append(list, parent+a)
	}
	return list
}

// option is one flag.
type option struct{ names, value, text, def string }

func options(c *cobra.Command) []option {
	var list []option
	c.Flags().SortFlags = true
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" || f.Name == "help" {
			return
		}
		o := option{names: "--" + f.Name}
		if f.Shorthand != "" {
			o.names = "-" + f.Shorthand + ", " + o.names
		}
		o.value, o.text = pflag.UnquoteUsage(f)
		if plain(f) {
			o.value = ""
		}
		if !slices.Contains([]string{"", "false", "0", "[]", "0s", "default"}, f.DefValue) {
			o.def = f.DefValue
		}
		list = append(list, o)
	})
	return list
}

// plain flags need no value.
func plain(f *pflag.Flag) bool { return f.NoOptDefVal == "true" }
