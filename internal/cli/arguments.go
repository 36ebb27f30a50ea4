package cli

import (
	"strconv"

	"github.com/spf13/cobra"
)

// noArgs, exactly, atLeast and between check the number of arguments and say what was wrong about it.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError(c, "%s takes no arguments, and %q is one", c.CommandPath(), args[0])
}

func exactly(n int) cobra.PositionalArgs { return between(n, n) }

func atLeast(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return usageError(c, "%s requires at least %s", c.CommandPath(), count(n))
	}
}

func between(low, high int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) >= low && len(args) <= high:
			return nil
		case low == high:
			return usageError(c, "%s requires %s", c.CommandPath(), count(low))
		case len(args) < low:
			return usageError(c, "%s requires at least %s", c.CommandPath(), count(low))
		}
		return usageError(c, "%s takes at most %s", c.CommandPath(), count(high))
	}
}

func count(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return strconv.Itoa(n) + " arguments"
}
