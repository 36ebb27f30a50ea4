package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
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

// complainAll prints errors, and ends the command with them if there are any.
func (a *app) complainAll(errs []error) error {
	for _, err := range errs {
		a.complain(err)
	}
	if len(errs) > 0 {
		return silent(exitFailure)
	}
	return nil
}

// complaint is an error as error, cause and try. The first line ends with its code.
func complaint(err error, coloured bool) string {
	e := parts(err)
	if e.code == "" {
		if e.code = "bad-usage"; broken(err) {
			e.code = "io-error"
		}
	}
	if e.try == "" {
		e.try = nextSteps[e.code]
	}
	if line, ok := ownCommand(); ok {
		e.try = strings.Replace(e.try, "kist ...", line, 1)
	}
	first, rest, more := strings.Cut(e.what, "\n")
	text := paint("error:", "1;31", coloured) + " " + first
	if e.code != "" {
		text += " " + paint("["+e.code+"]", "2", coloured)
	}
	if more {
		text += "\n" + rest
	}
	if e.cause != "" && !strings.Contains(e.what, e.cause) {
		text += "\n" + paint("cause:", "1", coloured) + " " + e.cause
	}
	if e.try != "" {
		text += "\n" + paint("try:", "1", coloured) + "   " + e.try
	}
	return text
}

// explained is an error taken apart.
type explained struct{ what, cause, try, code string }

// parts takes an error apart.
func parts(err error) explained {
	var hinted *hintedError
	if errors.As(err, &hinted) {
		e := parts(hinted.err)
		e.what = strings.Replace(err.Error(), hinted.Error(), e.what, 1)
		e.try, e.code = cmp.Or(hinted.try, e.try), cmp.Or(hinted.code, e.code)
		return e
	}
	var refused *client.Error
	if errors.As(err, &refused) {
		e := explained{what: err.Error(), code: cmp.Or(refused.Code, fault.ClassCode(refused))}
		if refused.What != "" {
			e.what, e.cause, e.try = strings.Replace(e.what, refused.Message, refused.What, 1), refused.Cause, refused.Try
		}
		return e
	}
	if f, ok := fault.As(err); ok {
		e := explained{strings.Replace(err.Error(), f.Error(), f.What, 1), f.Cause, f.Try, f.Code}
		if e.cause == "" && f.Err != nil {
			e.cause = f.Err.Error()
		}
		return e
	}
	return explained{what: err.Error(), code: localCode(err)}
}

// localCode is the code of an error that came from no daemon.
func localCode(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "file-not-found"
	case errors.Is(err, fs.ErrPermission):
		return "file-no-permission"
	case errors.Is(err, syscall.ENOSPC):
		return "disk-full"
	}
	return fault.ClassCode(err)
}

// hintedError is an error with something to try.
type hintedError struct {
	err       error
	try, code string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// flagError explains a flag that could not be read, with the nearest one that exists.
func flagError(c *cobra.Command, fs *pflag.FlagSet, err error) error {
	path := "kist"
	if c != nil {
		path = c.CommandPath()
	}
	try, code := path+" --help", "bad-flag"
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		code = "unknown-flag"
	}
	if missing != nil && len(missing.GetSpecifiedName()) > 1 {
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
	return &exitError{code: exitUsage, err: &hintedError{err: err, try: try, code: code}}
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
	return &hintedError{err: fmt.Errorf("%s has no command %q", path, name), try: try, code: "unknown-command"}
}

// usedWrongly adds to a wrong use of a command, of which nothing else is known, where to read about it.
func usedWrongly(c *cobra.Command, err error) error {
	code, told := codeOf(err)
	if c == nil || told == nil {
		return err
	}
	known := parts(told)
	if known.code != "" {
		return err
	}
	hinted := &hintedError{err: told, try: known.try, code: "bad-usage"}
	if broken(told) {
		hinted.code = "io-error"
	} else if hinted.try == "" {
		hinted.try = c.CommandPath() + " --help"
	}
	return &exitError{code: code, err: hinted}
}

// broken tells what the kernel refused, or a stream that ended too early, from what a person did wrong.
func broken(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe)
}

// nextSteps are what to try where nobody who knows more has said so, by code.
var nextSteps = map[string]string{
	"no-such-container": "kist ps -a", "no-such-image": "kist images", "image-not-found": "kist images, or kist pull", "no-such-network": "kist network ls",
	"no-such-volume": "kist volume ls", "file-not-found": "check the path",
	"file-no-permission": "sudo, or check the file's owner",
	"internal":           "kist doctor", "unavailable": "kist doctor", "timed-out": "kist doctor",
	"build-dockerfile": "correct that line", "build-step-failed": "look at its output, or kist build --progress plain",
	"build-failed": "kist build --progress plain", "path-not-found": "check the path: it is looked for in the build's directory",
	"not-permitted": "check what it is: kist inspect", "not-implemented": "leave it out: docs/limits.md", "disk-full": "kist system df",
	"io-error": "again; kist doctor",
}

// ownCommand is the command line, if it can be shown as it is: short, and without what a shell would take apart.
func ownCommand() (string, bool) {
	const most = 100
	line := strings.Join(append([]string{"kist"}, os.Args[1:]...), " ")
	special := func(r rune) bool {
		plain := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !plain && !strings.ContainsRune(" -_./:=,@+%", r)
	}
	blank := slices.ContainsFunc(os.Args, func(a string) bool { return a == "" || strings.Contains(a, " ") })
	return line, len(line) <= most && !blank && !strings.ContainsFunc(line, special)
}

// usageError is a wrong use of a command.
func usageError(c *cobra.Command, format string, args ...string) error {
	anys := make([]any, len(args))
	for i, s := range args {
		anys[i] = s
	}
	return &hintedError{err: fmt.Errorf(format, anys...), try: c.CommandPath() + " --help", code: "bad-usage"}
}

// ownOnly explains a refusal by a daemon that is not kist's: Docker's says "page not found" of what only kist has.
func ownOnly(err error, what string) error {
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Status != 404 || !strings.HasPrefix(refused.Message, "page not found") {
		return err
	}
	return &fault.Error{
		Code: "daemon-foreign", What: what + " needs a daemon of kist's", Cause: "the one that answers is another engine's, or an older one",
		Try: "kist context ls, or unset DOCKER_HOST", Class: errdefs.ErrNotImplemented,
	}
}
