package cli

import (
	"errors"
	"net/url"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/client"
)

type execFlags struct {
	detach, stdin, tty, privileged bool
	detachKeys, user, workdir      string
	env, envFile                   listFlag
}

func (f *execFlags) declare(fs *pflag.FlagSet) {
	fs.SetInterspersed(false)
	fs.BoolVarP(&f.detach, "detach", "d", false, "Do not wait for it")
	fs.StringVar(&f.detachKeys, "detach-keys", "", "Keys that leave it running, as in ctrl-p,ctrl-q")
	list(fs, &f.env, "env", "e", "Set a variable: NAME=value, or NAME to pass on this shell's", nil)
	list(fs, &f.envFile, "env-file", "", "Set the variables listed in a file", nil)
	fs.BoolVarP(&f.stdin, "interactive", "i", false, "Pass standard input on")
	fs.BoolVar(&f.privileged, "privileged", false, "Give the command every right over the host")
	fs.BoolVarP(&f.tty, "tty", "t", false, "Give it a terminal")
	fs.StringVarP(&f.user, "user", "u", "", "User and group: name|uid[:group|gid]")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "Directory to run in")
}

func (a *app) execCommand() *cobra.Command {
	var f execFlags
	c := &cobra.Command{Use: "exec [OPTIONS] CONTAINER COMMAND [ARG...]", Args: atLeast(2)}
	f.declare(c.Flags())
	c.RunE = func(_ *cobra.Command, args []string) error { return a.exec(&f, args[0], args[1:]) }
	return c
}

func (a *app) exec(f *execFlags, name string, command []string) error {
	req, err := a.execRequest(f, command)
	if err != nil {
		return badUse(err)
	}
	if !f.detach {
		if err := a.checkTTY(f.stdin, f.tty); err != nil {
			return err
		}
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	made, err := client.Ask[container.ExecCreateResponse](cl, containerPath(name, "/exec"), nil, req)
	if err != nil {
		return a.hintContainer(cl, name, err)
	}
	start, err := client.PostJSON(execPath(made.ID, "/start"), nil, container.ExecStartRequest{Detach: f.detach, Tty: f.tty, ConsoleSize: req.ConsoleSize})
	if err != nil {
		return err
	}
	if f.detach {
		return execError(cl.Call(start))
	}
	return a.execAttached(cl, f, made.ID, start)
}

func execPath(id, part string) string { return "/exec/" + url.PathEscape(id) + part }

// execError is a command that did not start, with its exit code.
func execError(err error) error {
	if err == nil {
		return nil
	}
	code := startCode(err)
	if code == exitUsage {
		code = exitFailure
	}
	return &exitError{code: code, err: err}
}

func (a *app) execRequest(f *execFlags, command []string) (*container.ExecCreateRequest, error) {
	env, err := environment(f.envFile.values, f.env.values, nil, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	r := &container.ExecCreateRequest{
		User: f.user, Privileged: f.privileged, Tty: f.tty, Env: env, WorkingDir: f.workdir, Cmd: command, DetachKeys: f.detachKeys,
	}
	if f.detach {
		return r, nil
	}
	r.AttachStdin, r.AttachStdout, r.AttachStderr = f.stdin, true, true
	if rows, cols, ok := terminalSize(a.out); ok && f.tty {
		r.ConsoleSize = &[2]uint{uint(rows), uint(cols)}
	}
	return r, nil
}

func (a *app) execAttached(cl *client.Client, f *execFlags, id string, start *client.Request) error {
	keys, err := detachKeys(f.detachKeys, a.config().DetachKeys)
	if err != nil {
		return err
	}
	stream, err := cl.Hijack(start)
	if err != nil {
		return execError(err)
	}
	s := a.newSession(stream, streams{in: f.stdin, out: true, err: true, tty: f.tty}, keys)
	defer s.close()
	if err := s.begin(); err != nil {
		return err
	}
	if f.tty {
		defer a.followSize(!cl.Endpoint().Own, func(rows, cols int) error {
			return cl.Call(client.Post(execPath(id, "/resize"), sizeQuery(rows, cols)))
		})()
	}
	if err := s.wait(); errors.Is(err, errDetached) {
		a.note(errDetached.Error())
		return nil
	} else if err != nil {
		return err
	}
	s.close()
	code, err := execCode(cl, id)
	if err == nil && code != 0 {
		err = silent(code)
	}
	return err
}

// execCodeTries bounds the wait for the exit code, which the daemon may learn a moment after the output's end.
const execCodeTries = 100

// execCode returns the exit code of a command whose output has ended.
func execCode(cl *client.Client, id string) (int, error) {
	for range execCodeTries {
		info, err := client.CallJSON[container.ExecInspectResponse](cl, client.Get(execPath(id, "/json"), nil))
		if err != nil {
			return 0, err
		}
		if info.ExitCode != nil && !info.Running {
			return *info.ExitCode, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, nil
}
