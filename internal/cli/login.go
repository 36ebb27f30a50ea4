package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) loginCommand() *cobra.Command {
	var (
		user, password string
		fromStdin      bool
	)
	c := &cobra.Command{Use: "login [OPTIONS] [REGISTRY]", Args: between(0, 1)}
	c.Flags().StringVarP(&password, "password", "p", "", "Password or token; others can see it in the list of processes")
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "Read the password from standard input")
	c.Flags().StringVarP(&user, "username", "u", "", "Name")
	c.RunE = func(_ *cobra.Command, args []string) error {
		switch {
		case password != "" && fromStdin:
			return errors.New("--password and --password-stdin are mutually exclusive")
		case fromStdin && user == "":
			return errors.New("must provide --username with --password-stdin")
		case password != "":
			a.note("warning: a password on the command line can be seen by others; use --password-stdin")
		}
		domain := ""
		if len(args) == 1 {
			domain = bareHost(args[0])
		}
		return a.login(registryKey(domain), user, password, fromStdin)
	}
	return c
}

func (a *app) login(key, user, password string, fromStdin bool) error {
	if fromStdin {
		b, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		password = strings.TrimRight(string(b), "\r\n")
	}
	var err error
	if user, password, err = a.askLogin(key, user, password); err != nil {
		return err
	}
	auth := registry.AuthConfig{Username: user, Password: password, ServerAddress: key}
	cl, err := a.client()
	if err != nil {
		return err
	}
	answer, err := client.Ask[registry.AuthResponse](cl, "/auth", nil, auth)
	if err != nil {
		return err
	}
	if answer.IdentityToken != "" {
		auth.Password, auth.IdentityToken = "", answer.IdentityToken
	}
	if err := a.keep(key, auth); err != nil {
		return err
	}
	if a.config().helper(key) == "" {
		a.note("The password is kept unencrypted in " + a.settingsFile() + "; a credential helper would encrypt it.")
	}
	if answer.Status != "" {
		return a.printLine(answer.Status)
	}
	return nil
}

// askLogin asks for what was not given.
func (a *app) askLogin(key, user, password string) (string, string, error) {
	if user != "" && password != "" {
		return user, password, nil
	}
	fd, ok := terminalFD(a.in)
	if !ok {
		return "", "", &hintedError{
			err: errors.New("cannot ask for name and password: the input is not a terminal"),
			try: "kist login -u NAME --password-stdin < FILE",
		}
	}
	if user == "" {
		fmt.Fprintf(a.err, "Username for %s: ", key)
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil {
			return "", "", fmt.Errorf("read the name: %w", err)
		}
		if user = strings.TrimSpace(line); user == "" {
			return "", "", errors.New("a name is required")
		}
	}
	if password == "" {
		fmt.Fprint(a.err, "Password: ")
		b, err := term.ReadPassword(fd)
		a.note("")
		if err != nil {
			return "", "", fmt.Errorf("read the password: %w", err)
		}
		if password = string(b); password == "" {
			return "", "", errors.New("a password is required")
		}
	}
	return user, password, nil
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout [REGISTRY]", Args: between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			domain := ""
			if len(args) == 1 {
				domain = bareHost(args[0])
			}
			key := registryKey(domain)
			if err := a.printLine("Removing login credentials for " + key); err != nil {
				return err
			}
			return a.forget(key)
		},
	}
}
