package compose

import (
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
)

// Tree is all commands of kist compose, for whoever describes them.
func Tree() *cobra.Command { return (&stack{tool: cli.NewTool()}).root() }
