package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// contextFlags are those of create and update.
type contextFlags struct {
	description, from string
	// docker is the endpoint: host=ssh://user@name or host=tcp://...,ca=...,cert=...,key=...
	docker string
}

func (f *contextFlags) declare(c *cobra.Command) {
	c.Flags().StringVar(&f.description, "description", "", "Description of the context")
	c.Flags().StringVar(&f.docker, "docker", "", "The daemon: host=ADDRESS[,ca=FILE][,cert=FILE][,key=FILE][,skip-tls-verify=true], or from=CONTEXT")
}

var contextPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$`)

func checkContextName(name string) error {
	switch {
	case name == defaultContext:
		return errors.New(`"default" is a reserved context name`)
	case !contextPattern.MatchString(name):
		return fmt.Errorf("context name %q is invalid: it must match %s", name, contextPattern)
	}
	return nil
}

func (a *app) contextCreateCommand() *cobra.Command {
	var f contextFlags
	c := &cobra.Command{Use: "create [OPTIONS] CONTEXT", Args: exactly(1)}
	f.declare(c)
	c.Flags().StringVar(&f.from, "from", "", "Copy another context")
	c.RunE = func(_ *cobra.Command, args []string) error { return a.createContext(args[0], &f) }
	return c
}

func (a *app) createContext(name string, f *contextFlags) error {
	if err := checkContextName(name); err != nil {
		return err
	}
	store := a.contexts()
	if _, err := os.Stat(store.metaDir(name)); err == nil {
		return fmt.Errorf("context %q already exists", name)
	}
	from := f.from
	if from == "" && f.docker == "" {
		from = a.contextName()
	}
	c := &savedContext{Name: name}
	e, files := savedEndpoint{}, map[string][]byte(nil)
	var err error
	if from != "" {
		if e, files, err = a.copiedEndpoint(from, c); err != nil {
			return err
		}
	}
	if f.docker != "" {
		if e, files, err = a.readEndpoint(f.docker); err != nil {
			return err
		}
	}
	if f.description != "" || from == "" {
		if err := c.setDescription(f.description); err != nil {
			return err
		}
	}
	if err := a.saveContext(c, e, files); err != nil {
		return err
	}
	a.note(fmt.Sprintf("Successfully created context %q", name))
	return nil
}

// saveContext writes a context and prints its name.
func (a *app) saveContext(c *savedContext, e savedEndpoint, files map[string][]byte) error {
	if err := c.setEndpoint(e); err != nil {
		return err
	}
	store := a.contexts()
	if err := store.keep(c.Name, files); err != nil {
		return err
	}
	if err := store.write(c); err != nil {
		return err
	}
	return a.printLine(c.Name)
}

func (a *app) contextUpdateCommand() *cobra.Command {
	var f contextFlags
	c := &cobra.Command{Use: "update [OPTIONS] CONTEXT", Args: exactly(1)}
	f.declare(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkContextName(args[0]); err != nil {
			return err
		}
		store := a.contexts()
		c, err := store.read(args[0])
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("description") {
			if err := c.setDescription(f.description); err != nil {
				return err
			}
		}
		var e savedEndpoint
		var files map[string][]byte
		if f.docker != "" {
			e, files, err = a.readEndpoint(f.docker)
		} else if e, err = c.endpoint(); err == nil {
			files, err = readAll(store.material(args[0]))
		}
		if err != nil {
			return err
		}
		if err := a.saveContext(c, e, files); err != nil {
			return err
		}
		a.note(fmt.Sprintf("Successfully updated context %q", args[0]))
		return nil
	}
	return c
}

// copiedEndpoint is another context's daemon, with its files; its description goes to c.
func (a *app) copiedEndpoint(from string, c *savedContext) (savedEndpoint, map[string][]byte, error) {
	if from == defaultContext {
		e, err := a.defaultEndpoint()
		if err != nil {
			return savedEndpoint{}, nil, err
		}
		saved := savedEndpoint{Host: e.String()}
		if e.TLS == nil {
			return saved, nil, nil
		}
		saved.SkipTLSVerify = !e.TLS.Verify
		files, err := readAll(map[string]string{"ca.pem": e.TLS.CA, "cert.pem": e.TLS.Cert, "key.pem": e.TLS.Key})
		return saved, files, err
	}
	store := a.contexts()
	old, err := store.read(from)
	if err != nil {
		return savedEndpoint{}, nil, err
	}
	c.Metadata, c.Endpoints = maps.Clone(old.Metadata), maps.Clone(old.Endpoints)
	e, err := old.endpoint()
	if err != nil {
		return e, nil, err
	}
	files, err := readAll(store.material(from))
	return e, files, err
}

// readAll reads files that are named; an empty path is no file.
func readAll(paths map[string]string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for n, p := range paths {
		if p == "" {
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read the certificates: %w", err)
		}
		files[n] = b
	}
	return files, nil
}

// readEndpoint reads --docker.
func (a *app) readEndpoint(text string) (e savedEndpoint, files map[string][]byte, err error) {
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return e, nil, fmt.Errorf("invalid --docker: %w", err)
	}
	known := []string{"host", "ca", "cert", "key", "skip-tls-verify", "from"}
	values := map[string]string{}
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		if k = strings.TrimSpace(k); !ok || !slices.Contains(known, k) {
			return e, nil, fmt.Errorf("invalid --docker: unrecognized config key: %q; there are %s", k, strings.Join(known, ", "))
		}
		values[k] = v
	}
	if from := values["from"]; from != "" {
		return a.copiedEndpoint(from, &savedContext{})
	}
	if _, err := client.ParseHost(values["host"]); values["host"] == "" || err != nil {
		return e, nil, errors.Join(errors.New("invalid --docker: it needs host=unix:///path, host=tcp://name:port or host=ssh://user@name"), err)
	}
	e.Host = values["host"]
	if s := values["skip-tls-verify"]; s != "" {
		if e.SkipTLSVerify, err = strconv.ParseBool(s); err != nil {
			return e, nil, fmt.Errorf("invalid --docker: skip-tls-verify: %w", err)
		}
	}
	if (values["cert"] == "") != (values["key"] == "") {
		return e, nil, errors.New("invalid --docker: cert and key belong together")
	}
	files, err = readAll(map[string]string{"ca.pem": values["ca"], "cert.pem": values["cert"], "key.pem": values["key"]})
	return e, files, err
}

func (a *app) contextRemoveCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "rm [OPTIONS] CONTEXT...", Args: atLeast(1)}
	c.Flags().BoolVarP(&force, "force", "f", false, "Remove it even if it is in use")
	c.RunE = func(_ *cobra.Command, args []string) error {
		failed := false
		for _, name := range args {
			err := a.removeContext(name, force)
			if err == nil {
				err = a.printLine(name)
			}
			if err != nil {
				failed = true
				a.complain(err)
			}
		}
		if failed {
			return silent(exitFailure)
		}
		return nil
	}
	return c
}

func (a *app) removeContext(name string, force bool) error {
	if name == defaultContext {
		return errors.New(`context "default" cannot be removed`)
	}
	store := a.contexts()
	if _, err := store.read(name); err != nil && !force {
		return err
	}
	if name == a.config().CurrentContext {
		if !force {
			return &hintedError{err: fmt.Errorf("context %q is in use", name), try: "kist context use default, or rm --force"}
		}
		if err := a.setCurrentContext(""); err != nil {
			return err
		}
	}
	return store.remove(name)
}
