package compose

import (
	"io"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
)

// Main runs the command line and returns the exit code.
func Main(args []string) int {
	tool := cli.NewTool()
	defer tool.Close()
	// What the library warns of is of use to its authors: a variable that is not set is told of in other words.
	logrus.SetOutput(io.Discard)
	s := &stack{tool: tool}
	warn := &warnings{note: tool.Note, seen: map[string]bool{}}
	logrus.AddHook(warn)
	root := s.root()
	root.SetArgs(args)
	return tool.Report(root.Execute())
}

// warnings passes the library's warnings on, each once.
type warnings struct {
	note func(string)
	seen map[string]bool
}

// Levels are those that are passed on.
func (*warnings) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel} }

// Fire passes one on.
func (w *warnings) Fire(e *logrus.Entry) error {
	if !w.seen[e.Message] {
		w.seen[e.Message] = true
		w.note("warning: " + e.Message)
	}
	return nil
}

// root is the tree of commands.
func (s *stack) root() *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use: "compose", Short: "Run the services of a Compose file", Args: cobra.ArbitraryArgs, TraverseChildren: true,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kist compose"},
	}
	root.RunE = func(c *cobra.Command, args []string) error {
		switch on, err := c.Flags().GetBool("version"); {
		case err == nil && on || version:
			return s.printVersion("", false)
		case len(args) > 0:
			return s.tool.UnknownCommand(c, args[0])
		}
		return c.Help()
	}
	s.tool.Adopt(root)
	s.declare(root.Flags())
	root.Flags().AddFlagSet(s.tool.Flags)
	for _, c := range s.commands() {
		if c.Flags().Lookup("help") == nil {
			c.Flags().Bool("help", false, "Print this help")
		}
		c.DisableFlagsInUseLine = true
		if c.ValidArgsFunction == nil {
			c.ValidArgsFunction = s.completeServices
		}
		root.AddCommand(c)
	}
	return root
}

// commands are all there are.
func (s *stack) commands() []*cobra.Command {
	return []*cobra.Command{
		s.upCommand(), s.downCommand(), s.psCommand(), s.logsCommand(), s.execCommand(), s.runCommand(), s.buildCommand(),
		s.pullCommand(), s.pushCommand(), s.restartCommand(), s.stopCommand(), s.startCommand(), s.killCommand(), s.rmCommand(),
		s.pauseCommand(), s.unpauseCommand(), s.configCommand(), s.waitCommand(), s.topCommand(), s.eventsCommand(), s.imagesCommand(),
		s.portCommand(), s.cpCommand(), s.lsCommand(), s.createCommand(), s.scaleCommand(), s.attachCommand(), s.statsCommand(),
		s.volumesCommand(), s.watchCommand(), s.versionCommand(),
	}
}
