package cli

import (
	"io"

	"github.com/spf13/cobra"
)

// Tree is all of kist's commands, for whoever describes them. Those that are not shown have Hidden set.
func Tree() *cobra.Command {
	a := &app{out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }}
	root := a.root([]string{"help"})
	root.Short = "Run applications from images as isolated processes"
	root.Flags().AddFlagSet(a.globalFlags())
	return root
}
