package cli

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// post is the action of a verb that is one request without a body.
func post(verb string, q url.Values) func(cl *client.Client, name string) error {
	return func(cl *client.Client, name string) error { return cl.Call(client.Post(containerPath(name, verb), q)) }
}

// stopping is the command stop or restart.
func (a *app) stopping(verb string) *cobra.Command {
	var (
		signal  string
		timeout int
	)
	c := &cobra.Command{Use: "stop [OPTIONS] CONTAINER...", Args: atLeast(1)}
	c.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send first")
	c.Flags().IntVarP(&timeout, "timeout", "t", 0, "Seconds until it is killed; -1 waits for ever")
	c.Flags().IntVar(&timeout, "time", 0, "Former name of --timeout")
	c.Flags().Lookup("time").Hidden = true
	c.RunE = func(c *cobra.Command, args []string) error {
		q := url.Values{}
		if signal != "" {
			q.Set("signal", signal)
		}
		if c.Flags().Changed("timeout") && c.Flags().Changed("time") {
			return errors.New("conflicting options: cannot specify both --timeout and --time")
		}
		if c.Flags().Changed("timeout") || c.Flags().Changed("time") {
			q.Set("t", strconv.Itoa(timeout))
		}
		return a.eachContainer(args, post(verb, q))
	}
	return c
}

func (a *app) stopCommand() *cobra.Command    { return a.stopping("/stop") }
func (a *app) restartCommand() *cobra.Command { return a.stopping("/restart") }

func (a *app) killCommand() *cobra.Command {
	var signal string
	c := &cobra.Command{Use: "kill [OPTIONS] CONTAINER...", Args: atLeast(1)}
	c.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send (default KILL)")
	c.RunE = func(_ *cobra.Command, args []string) error {
		q := url.Values{}
		if signal != "" {
			q.Set("signal", signal)
		}
		return a.eachContainer(args, post("/kill", q))
	}
	return c
}

// plain is a verb without flags.
func (a *app) plain(verb string) *cobra.Command {
	return &cobra.Command{
		Use: "verb CONTAINER...", Args: atLeast(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.eachContainer(args, post(verb, nil)) },
	}
}

func (a *app) pauseCommand() *cobra.Command   { return a.plain("/pause") }
func (a *app) unpauseCommand() *cobra.Command { return a.plain("/unpause") }

func (a *app) rmCommand() *cobra.Command {
	var force, volumes, link bool
	c := &cobra.Command{Use: "rm [OPTIONS] CONTAINER...", Args: atLeast(1)}
	c.Flags().BoolVarP(&force, "force", "f", false, "Kill it first if it runs")
	c.Flags().BoolVarP(&volumes, "volumes", "v", false, "Also remove its nameless volumes")
	c.Flags().BoolVarP(&link, "link", "l", false, "Remove the link of that name instead")
	c.RunE = func(_ *cobra.Command, args []string) error {
		q := url.Values{}
		for k, set := range map[string]bool{"force": force, "v": volumes, "link": link} {
			if set {
				q.Set(k, "1")
			}
		}
		return a.each(args, func(cl *client.Client, arg string) (string, error) {
			name := strings.Trim(arg, "/")
			if name == "" {
				return "", errors.New("a container's name cannot be empty")
			}
			err := cl.Call(client.Delete(containerPath(name, ""), q))
			if force && errors.Is(err, errdefs.ErrNotFound) {
				a.complain(err) // said, but what was wanted is so
				return "", nil
			}
			return arg, a.hintContainer(cl, name, err)
		})
	}
	return c
}

func (a *app) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename CONTAINER NEW_NAME", Args: exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			old, name := strings.TrimSpace(args[0]), strings.TrimSpace(args[1])
			if old == "" || name == "" {
				return errors.New("neither the old nor the new name of a container may be empty")
			}
			err = cl.Call(client.Post(containerPath(old, "/rename"), url.Values{"name": {name}}))
			return a.hintContainer(cl, old, err)
		},
	}
}

func (a *app) waitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "wait CONTAINER...", Args: atLeast(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(cl *client.Client, name string) (string, error) {
				w, err := startWait(cl, name, "")
				if err != nil {
					return "", a.hintContainer(cl, name, err)
				}
				code, err := w.result()
				return strconv.Itoa(code), err
			})
		},
	}
}

func (a *app) exportCommand() *cobra.Command {
	var output string
	c := &cobra.Command{Use: "export [OPTIONS] CONTAINER", Args: exactly(1)}
	c.Flags().StringVarP(&output, "output", "o", "", "File to write instead of standard output")
	c.RunE = func(_ *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		err = a.download(cl, client.Get(containerPath(args[0], "/export"), nil), output)
		return a.hintContainer(cl, args[0], err)
	}
	return c
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff CONTAINER", Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.diff(args[0]) },
	}
}

func (a *app) daemonCommand() *cobra.Command {
	return &cobra.Command{
		Use: "daemon", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			r := client.FindRoots(a.getenv)
			return a.printLine(fmt.Sprintf(`The daemon is a program of its own, kistd. The first command that finds none starts it in the
background; --no-autostart or KIST_NO_AUTOSTART=1 forbids that.

  run it in the foreground    kistd
  its options                 kistd --help
  its log                     %s
  its socket                  %s/kist.sock
  end it                      kill its process; containers go on without it`, r.Log(), r.Exec))
		},
	}
}

func (a *app) searchCommand() *cobra.Command {
	return refused("search TERM", "kist does not search registries", "look on the registry's web page, then: kist pull NAME")
}

// refused is a command that is not served and says so.
func refused(use, what, try string) *cobra.Command {
	return &cobra.Command{
		Use: use, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			for _, s := range args {
				if s == "--help" {
					return c.Help()
				}
			}
			return &hintedError{err: errors.New(what), try: try}
		},
	}
}

// download copies an answer to a file or to standard output, never to a terminal.
func (a *app) download(cl *client.Client, r *client.Request, output string) error {
	if output == "" {
		if _, ok := terminalFD(a.out); ok {
			return &hintedError{err: errors.New("an archive is not written to a terminal"), try: "-o FILE, or redirect the output"}
		}
		return a.copyAnswer(cl, r, a.out)
	}
	if st, err := os.Stat(output); err == nil && !st.Mode().IsRegular() && st.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("%s is not a file that can be written", output)
	}
	resp, err := cl.Do(r)
	if err != nil {
		return err
	}
	m := a.measure("Writing "+output, resp.Length())
	err = saveTo(output, m.body(resp.Body))
	m.end("Wrote", err)
	return err
}
