package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// contextRow is a line of context ls. There is one context: the daemon that flags and environment name.
type contextRow struct {
	Current        bool
	Description    string
	DockerEndpoint string
	Error          string
	Name           string
}

var contextHeaders = headers{"Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT", "Error": "ERROR"}

func (a *app) contextListCommand() *cobra.Command {
	var (
		format string
		quiet  bool
	)
	c := &cobra.Command{Use: "ls [OPTIONS]", Args: noArgs}
	c.Flags().StringVar(&format, "format", "", formatHelp)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	c.RunE = func(*cobra.Command, []string) error {
		e, err := a.endpoint()
		if err != nil {
			return err
		}
		l := &listing{format: format, headers: contextHeaders, table: "{{.Name}}{{if eq (printf \"%v\" .Current) \"true\"}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"}
		if quiet {
			l.quiet = "{{.Name}}"
		}
		d := "kist's own daemon"
		if e.From != "" {
			d = "named by " + e.From
		}
		return printRows(a.out, l, []contextRow{{Name: "default", Current: true, Description: d, DockerEndpoint: e.String()}})
	}
	return c
}

func (a *app) contextShowCommand() *cobra.Command {
	return &cobra.Command{Use: "show", Args: noArgs, RunE: func(*cobra.Command, []string) error { return a.printLine("default") }}
}

func (a *app) contextUseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "use CONTEXT", Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if args[0] != "default" {
				return noContext(args[0])
			}
			return a.printLine("default")
		},
	}
}

func noContext(name string) error {
	return &hintedError{err: fmt.Errorf("there is no context %q: kist has only \"default\"", name), try: "--host or KIST_HOST name another daemon"}
}

func (a *app) contextInspectCommand() *cobra.Command {
	var format string
	c := &cobra.Command{Use: "inspect [OPTIONS] [CONTEXT...]"}
	c.Flags().StringVarP(&format, "format", "f", "", "How to print: json, or a Go template")
	c.RunE = func(_ *cobra.Command, args []string) error {
		for _, n := range args {
			if n != "default" {
				return noContext(n)
			}
		}
		e, err := a.endpoint()
		if err != nil {
			return err
		}
		type host struct {
			Host          string
			SkipTLSVerify bool
		}
		type shown struct {
			Name      string
			Metadata  struct{}
			Endpoints map[string]host
		}
		s := shown{Name: "default", Endpoints: map[string]host{"docker": {Host: e.String(), SkipTLSVerify: e.TLS != nil && !e.TLS.Verify}}}
		if format != "" && format != "json" {
			return printRows(a.out, &listing{format: format}, []shown{s})
		}
		b, err := json.MarshalIndent([]shown{s}, "", "    ")
		if err != nil {
			return err
		}
		return a.printLine(string(b))
	}
	return c
}
