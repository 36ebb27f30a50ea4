package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// Exit codes as docker's.
const (
	exitFailure = 1
	exitUsage   = 125
)

// exitError is an exit code with the error to report, if any.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// silent ends the command with a code; everything was said already.
func silent(code int) error { return &exitError{code: code} }

// report prints an error and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	code, err := codeOf(err)
	if err != nil {
		a.complain(err)
	}
	return code
}

// codeOf returns an error's exit code, and what is to be told, if anything.
func codeOf(err error) (int, error) {
	var ee *exitError
	if errors.As(err, &ee) {
		return ee.code, ee.err
	}
	return exitFailure, err
}

// complain prints an error.
func (a *app) complain(err error) { a.note(complaint(err, a.coloured())) }

// complaint is an error as error, cause and try.
func complaint(err error, coloured bool) string {
	what, cause, try := parts(err)
	text := paint("error:", "1;31", coloured) + " " + what
	if cause != "" {
		text += "\n" + paint("cause:", "1", coloured) + " " + cause
	}
	if try != "" {
		text += "\n" + paint("try:", "1", coloured) + "   " + try
	}
	return text
}

// parts takes an error apart.
func parts(err error) (what, cause, try string) {
	var hinted *hintedError
	if errors.As(err, &hinted) {
		what, cause, _ = parts(hinted.err)
		return what, cause, hinted.try
	}
	var refused *client.Error
	if errors.As(err, &refused) {
		if refused.What == "" {
			return err.Error(), "", ""
		}
		return strings.Replace(err.Error(), refused.Message, refused.What, 1), refused.Cause, refused.Try
	}
	if f, ok := fault.As(err); ok {
		cause := f.Cause
		if cause == "" && f.Err != nil {
			cause = f.Err.Error()
		}
		return strings.Replace(err.Error(), f.Error(), f.What, 1), cause, f.Try
	}
	return err.Error(), "", ""
}

// hintedError is an error with something to try.
type hintedError struct {
	err error
	try string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// flagError explains a flag that could not be read, with the nearest one that exists.
func flagError(c *cobra.Command, fs *pflag.FlagSet, err error) error {
	path := "kist"
	if c != nil {
		path = c.CommandPath()
	}
	try := path + " --help"
	var missing *pflag.NotExistError
	if errors.As(err, &missing) && len(missing.GetSpecifiedName()) > 1 {
		var names []string
		fs.VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if near := typo.Nearest(missing.GetSpecifiedName(), names); near != "" {
			try = "did you mean --" + near + "? (" + try + " lists all flags)"
		}
	}
	return &exitError{code: exitUsage, err: &hintedError{err: err, try: try}}
}

// unknownCommand explains a command that does not exist.
func unknownCommand(path, name string, entries []entry) error {
	try := path + " --help"
	var names []string
	for _, e := range entries {
		names = append(names, e.names...)
	}
	if near := typo.Nearest(name, names); near != "" {
		try = "did you mean " + path + " " + near + "?"
	}
	return &hintedError{err: fmt.Errorf("%s has no command %q", path, name), try: try}
}

// usageError is a wrong use of a command.
func usageError(c *cobra.Command, format string, args ...string) error {
	anys := make([]any, len(args))
	for i, s := range args {
		anys[i] = s
	}
	return &hintedError{err: fmt.Errorf(format, anys...), try: c.CommandPath() + " --help"}
}
