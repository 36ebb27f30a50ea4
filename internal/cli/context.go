package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// contextName is the context in force: --context, or "default" if something names a daemon, or $DOCKER_CONTEXT, or the one
// that `context use` chose.
func (a *app) contextName() string {
	if a.globals.context != "" {
		return a.globals.context
	}
	if a.hostNamed() != "" {
		return defaultContext
	}
	if c := a.getenv("DOCKER_CONTEXT"); c != "" {
		return c
	}
	if c := a.config().CurrentContext; c != "" {
		return c
	}
	return defaultContext
}

// hostNamed says what names the daemon by its address.
func (a *app) hostNamed() string {
	if a.globals.host != "" {
		return "--host"
	}
	for _, v := range []string{"KIST_HOST", "DOCKER_HOST"} {
		if a.getenv(v) != "" {
			return v
		}
	}
	return ""
}

// contextRow is a line of context ls.
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
		rows, err := a.contextRows()
		if err != nil {
			return err
		}
		l := &listing{format: format, headers: contextHeaders, table: "{{.Name}}{{if eq (printf \"%v\" .Current) \"true\"}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"}
		if quiet {
			l.quiet = "{{.Name}}"
		}
		if err := printRows(a.out, l, rows); err != nil || quiet {
			return err
		}
		if from := a.hostNamed(); from != "" && from != "--host" {
			a.note("warning: " + from + " overrides the context; unset it, or use --context")
		}
		return nil
	}
	return c
}

func (a *app) contextRows() ([]contextRow, error) {
	current := a.contextName()
	row := contextRow{Name: defaultContext, Current: current == defaultContext, Description: "kist's own daemon"}
	if from := a.hostNamed(); from != "" {
		row.Description = "named by " + from
	}
	if e, err := a.defaultEndpoint(); err == nil {
		row.DockerEndpoint = e.String()
	} else {
		row.Error = err.Error()
	}
	rows := []contextRow{row}
	all, err := a.contexts().list()
	if err != nil {
		return nil, err
	}
	found := row.Current
	for _, c := range all {
		r := contextRow{Name: c.Name, Description: c.description(), Current: c.Name == current}
		found = found || r.Current
		e, err := c.endpoint()
		if r.DockerEndpoint = e.Host; err != nil {
			r.Error = err.Error()
		}
		rows = append(rows, r)
	}
	if !found {
		rows = append(rows, contextRow{Name: current, Current: true, Error: fmt.Sprintf("context %q: context not found", current)})
	}
	return rows, nil
}

func (a *app) contextShowCommand() *cobra.Command {
	return &cobra.Command{Use: "show", Args: noArgs, RunE: func(*cobra.Command, []string) error { return a.printLine(a.contextName()) }}
}

func (a *app) contextUseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "use CONTEXT", Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.useContext(args[0]) },
	}
}

func (a *app) useContext(name string) error {
	value := name
	if name == defaultContext {
		value = ""
	} else if _, err := a.contexts().read(name); err != nil {
		return err
	}
	if err := a.setCurrentContext(value); err != nil {
		return err
	}
	if from := a.hostNamed(); from != "" && name != defaultContext {
		a.note(fmt.Sprintf("warning: %s overrides the context; to use %q, unset it, or use --context", from, name))
	}
	if err := a.printLine(name); err != nil {
		return err
	}
	a.note(fmt.Sprintf("Current context is now %q", name))
	return nil
}

// setCurrentContext notes the context to use; none is the default.
func (a *app) setCurrentContext(name string) error {
	return a.editSettings(func(whole map[string]json.RawMessage) (bool, error) {
		if name == "" {
			_, had := whole["currentContext"]
			delete(whole, "currentContext")
			return had, nil
		}
		raw, err := json.Marshal(name)
		same := bytes.Equal(whole["currentContext"], raw)
		whole["currentContext"] = raw
		return !same, err
	})
}

// shownContext is a context as inspect prints it.
type shownContext struct {
	Name        string
	Metadata    map[string]json.RawMessage
	Endpoints   map[string]savedEndpoint
	TLSMaterial map[string][]string
	Storage     struct{ MetadataPath, TLSPath string }
}

func (a *app) contextInspectCommand() *cobra.Command {
	var format string
	c := &cobra.Command{Use: "inspect [OPTIONS] [CONTEXT...]"}
	c.Flags().StringVarP(&format, "format", "f", "", "How to print: json, or a Go template")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{a.contextName()}
		}
		var shown []shownContext
		var failures []error
		for _, name := range args {
			s, err := a.showContext(name)
			if err != nil {
				failures = append(failures, err)
				continue
			}
			shown = append(shown, *s)
		}
		if err := a.printContexts(shown, format); err != nil {
			failures = append(failures, err)
		}
		return a.complainAll(failures)
	}
	return c
}

func (a *app) printContexts(shown []shownContext, format string) error {
	if format != "" && format != "json" {
		return printRows(a.out, &listing{format: format}, shown)
	}
	if shown == nil {
		shown = []shownContext{}
	}
	b, err := json.Marshal(shown)
	if err == nil && format == "" {
		b, err = json.MarshalIndent(shown, "", "    ")
	}
	if err != nil {
		return err
	}
	return a.printLine(string(b))
}

func (a *app) showContext(name string) (*shownContext, error) {
	s := &shownContext{Name: name, Metadata: map[string]json.RawMessage{}, Endpoints: map[string]savedEndpoint{}, TLSMaterial: map[string][]string{}}
	if name == defaultContext {
		e, err := a.defaultEndpoint()
		if err != nil {
			return nil, err
		}
		s.Endpoints[dockerEndpoint] = savedEndpoint{Host: e.String(), SkipTLSVerify: e.TLS != nil && !e.TLS.Verify}
		s.Storage.MetadataPath, s.Storage.TLSPath = "<IN MEMORY>", "<IN MEMORY>"
		return s, nil
	}
	store := a.contexts()
	c, err := store.read(name)
	if err != nil {
		return nil, err
	}
	if c.Metadata != nil {
		s.Metadata = c.Metadata
	}
	e, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	s.Endpoints[dockerEndpoint] = e
	if files := sortedKeys(store.material(name)); len(files) > 0 {
		s.TLSMaterial[dockerEndpoint] = files
	}
	s.Storage.MetadataPath, s.Storage.TLSPath = store.metaDir(name), store.tlsDir(name)
	return s, nil
}

// endpoint chooses the daemon from flags, environment and contexts.
func (a *app) endpoint() (client.Endpoint, error) {
	if a.globals.context != "" && a.globals.host != "" {
		return client.Endpoint{}, errors.New("conflicting options: cannot specify both --host and --context")
	}
	if name := a.contextName(); name != defaultContext {
		return a.contexts().connection(name)
	}
	if a.globals.context == defaultContext && a.globals.host == "" {
		// As docker has it: what is asked for by name is not what the environment names.
		return client.FindEndpoint("", func(k string) string {
			if k == "DOCKER_HOST" || k == "KIST_HOST" {
				return ""
			}
			return a.getenv(k)
		})
	}
	return a.defaultEndpoint()
}

// defaultEndpoint is the daemon that flags and environment name, or kist's own.
func (a *app) defaultEndpoint() (client.Endpoint, error) {
	e, err := client.FindEndpoint(a.globals.host, a.getenv)
	if err != nil {
		return e, err
	}
	verify := a.globals.tlsVerify || a.getenv("DOCKER_TLS_VERIFY") != ""
	if e.Scheme == "tcp" && (a.globals.tls || verify || a.getenv("DOCKER_TLS") != "") {
		e.TLS = a.tlsFiles(verify)
	}
	return e, nil
}

func (a *app) tlsFiles(verify bool) *client.TLSFiles {
	dir := a.getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = a.settingsDir()
	}
	// A file that nobody named need not be there.
	or := func(flag, name string) string {
		if p := filepath.Join(dir, name); flag == "" && regular(p) {
			return p
		}
		return flag
	}
	f := &client.TLSFiles{Verify: verify, Cert: or(a.globals.tlsCert, "cert.pem"), Key: or(a.globals.tlsKey, "key.pem")}
	if verify {
		f.CA = or(a.globals.tlsCA, "ca.pem")
	}
	return f
}
