package cli

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/client"
)

// Version is the program's version; the linker sets it.
var Version = "0.1.0-dev"

// app is what a command works with.
type app struct {
	in     io.Reader
	out    io.Writer
	err    io.Writer
	getenv func(string) string

	globals  globals
	shared   *client.Client
	settings *settings
	// completing tells that a shell asks what may follow.
	completing bool
}

// globals are the flags before the command.
type globals struct {
	host, context, configDir string
	tls, tlsVerify           bool
	tlsCA, tlsCert, tlsKey   string
	logLevel                 string
	debug, noAutostart       bool
	version                  bool
}

// Main runs the command line and returns the exit code.
func Main(args []string) int {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	code := a.run(args)
	if a.shared != nil {
		a.shared.Close()
	}
	return code
}

// globalFlags declares the flags before the command.
func (a *app) globalFlags() *pflag.FlagSet {
	g := &a.globals
	fs := pflag.NewFlagSet("kist", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	fs.Usage = func() {}
	fs.StringVarP(&g.host, "host", "H", "", "Daemon to connect to (unix://, tcp:// or ssh://)")
	fs.StringVarP(&g.context, "context", "c", "", "Context that names the daemon (see kist context)")
	fs.StringVar(&g.configDir, "config", "", "Directory of the client's settings (default ~/.docker)")
	// The client has nothing to say at any level; scripts written for docker pass these.
	fs.BoolVarP(&g.debug, "debug", "D", false, "Accepted for docker's sake")
	fs.StringVarP(&g.logLevel, "log-level", "l", "info", "Accepted for docker's sake")
	fs.Lookup("debug").Hidden, fs.Lookup("log-level").Hidden = true, true
	fs.BoolVar(&g.noAutostart, "no-autostart", false, "Do not start a daemon when none is running")
	fs.BoolVar(&g.tls, "tls", false, "Speak TLS")
	fs.StringVar(&g.tlsCA, "tlscacert", "", "Trust only certificates of this authority")
	fs.StringVar(&g.tlsCert, "tlscert", "", "The client's certificate")
	fs.StringVar(&g.tlsKey, "tlskey", "", "The certificate's key")
	fs.BoolVar(&g.tlsVerify, "tlsverify", false, "Speak TLS and check the daemon's certificate")
	fs.BoolVarP(&g.version, "version", "v", false, "Print kist's version")
	return fs
}

// run parses the global flags, builds the command that is named and executes it.
func (a *app) run(args []string) int {
	fs := a.globalFlags()
	if err := fs.Parse(args); err != nil && !errors.Is(err, pflag.ErrHelp) {
		return a.report(flagError(nil, fs, err))
	} else if err != nil {
		args = []string{"help"}
	} else {
		args = fs.Args()
	}
	if a.globals.version {
		return a.report(a.printLine("kist version " + Version))
	}
	if len(args) == 0 {
		args = []string{"help"}
	}
	if strings.HasPrefix(args[0], "__complete") {
		args = a.completeGlobals(args)
		a.completeElsewhere(args)
	}
	root := a.root(args)
	root.SetArgs(args)
	c, err := root.ExecuteC()
	return a.report(usedWrongly(c, err))
}

// root builds the tree of commands as far as args need it.
func (a *app) root(args []string) *cobra.Command {
	root := &cobra.Command{
		Use: "kist", SilenceErrors: true, SilenceUsage: true, DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error { return unknownCommand("kist", args[0], a.entries()) },
		Args: cobra.ArbitraryArgs,
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetHelpFunc(a.help)
	root.SetUsageFunc(func(*cobra.Command) error { return nil })
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return flagError(c, c.Flags(), err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	entries := a.entries()
	a.completing = strings.HasPrefix(args[0], "__complete")
	if a.completing {
		kept := a.globals
		root.Flags().AddFlagSet(a.globalFlags())
		a.globals = kept
		a.completeArgs(root, "")
	}
	if e, ok := find(entries, args[0]); ok {
		e.build(a, root, args[1:])
		root.CompletionOptions.DisableDefaultCmd = true
		root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
		return root
	}
	if strings.HasPrefix(args[0], "-") || args[0] == "help" || a.completing {
		root.CompletionOptions.DisableDefaultCmd = true
		for _, e := range entries {
			e.build(a, root, nil)
		}
	}
	return root
}

// printLine writes a line of data.
func (a *app) printLine(s string) error {
	_, err := io.WriteString(a.out, s+"\n")
	return err
}

// note writes a line for the person.
func (a *app) note(s string) {
	// There is nobody to tell when standard error is gone.
	_, _ = io.WriteString(a.err, s+"\n")
}
