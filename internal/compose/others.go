package compose

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/model"
)

func (s *stack) pullCommand() *cobra.Command {
	var ignoreFailures, ignoreBuildable, includeDeps, quiet bool
	var policy string
	c := &cobra.Command{Use: "pull [OPTIONS] [SERVICE...]", Short: "Fetch services' images from their registries"}
	fs := c.Flags()
	fs.BoolVar(&ignoreBuildable, "ignore-buildable", false, "Leave out images that can be built")
	fs.BoolVar(&ignoreFailures, "ignore-pull-failures", false, "Go on when an image cannot be fetched")
	fs.BoolVar(&includeDeps, "include-deps", false, "Also those of what the services depend on")
	fs.StringVar(&policy, "policy", "", "missing leaves alone what is there; always asks for newer ones")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Do not show how far it is")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.open(args...); err != nil {
			return err
		}
		defer s.board.Close()
		names, err := s.selected(args, includeDeps)
		if err != nil {
			return err
		}
		have, err := s.pictures(s.project, names)
		if err != nil {
			return err
		}
		var refs []string
		err = each(s, names, func(string) error { return nil })
		names = slices.DeleteFunc(names, func(n string) bool {
			svc := s.project.Services[n]
			ref := model.ImageName(s.name, &svc)
			skip := svc.Build != nil && (ignoreBuildable || svc.Image == "") || slices.Contains(refs, ref) || svc.PullPolicy == "never" && policy == "" ||
				(policy == "missing" || policy == "" && (svc.PullPolicy == "missing" || svc.PullPolicy == "if_not_present")) && have[n] != nil
			refs = append(refs, ref)
			return skip
		})
		if err != nil {
			return err
		}
		return each(s, names, func(n string) error {
			svc := s.project.Services[n]
			err := s.pullService(s.project, &svc, quiet)
			if err != nil && (ignoreFailures || svc.Build != nil) {
				s.board.Note("warning: " + n + ": " + firstLine(err))
				return nil
			}
			return err
		})
	}
	return c
}

// selected are the services that are named, or all.
func (s *stack) selected(args []string, deps bool) ([]string, error) {
	if len(args) == 0 || !deps {
		if len(args) == 0 {
			return sorted(s.project.ServiceNames()), nil
		}
		return args, nil
	}
	p, err := s.project.WithSelectedServices(args)
	if err != nil {
		return nil, err
	}
	return sorted(p.ServiceNames()), nil
}

func (s *stack) pushCommand() *cobra.Command {
	var ignoreFailures, includeDeps, quiet bool
	c := &cobra.Command{Use: "push [OPTIONS] [SERVICE...]", Short: "Send services' images to their registries"}
	c.Flags().BoolVar(&ignoreFailures, "ignore-push-failures", false, "Go on when an image cannot be sent")
	c.Flags().BoolVar(&includeDeps, "include-deps", false, "Also those of what the services depend on")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Do not show how far it is")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.open(args...); err != nil {
			return err
		}
		names, err := s.selected(args, includeDeps)
		if err != nil {
			return err
		}
		var errs []error
		for _, n := range names {
			svc := s.project.Services[n]
			if svc.Build == nil || svc.Image == "" {
				continue
			}
			for _, ref := range append([]string{svc.Image}, svc.Build.Tags...) {
				line := []string{"push", ref}
				if quiet {
					line = append(line, "--quiet")
				}
				if err := s.tool.Command(line...); err != nil {
					if !ignoreFailures {
						return fmt.Errorf("push %s: %w", ref, err)
					}
					errs = append(errs, err)
				}
			}
		}
		for _, err := range errs {
			s.tool.Complain(err)
		}
		return nil
	}
	return c
}

func (s *stack) waitCommand() *cobra.Command {
	var down bool
	c := &cobra.Command{Use: "wait [OPTIONS] SERVICE...", Short: "Wait until services' containers stop", Args: cobra.MinimumNArgs(1)}
	c.Flags().BoolVar(&down, "down-project", false, "Remove the project when the first one stops")
	c.RunE = s.verb(func(args []string) error {
		f, err := s.chosen(args, false)
		if err != nil {
			return err
		}
		if len(f) == 0 {
			return fmt.Errorf("%s: there is no container to wait for", strings.Join(args, ", "))
		}
		codes := make(chan int, len(f))
		errs := make([]error, len(f))
		var wg sync.WaitGroup
		for i, c := range f {
			wg.Go(func() {
				r, err := client.CallJSON[container.WaitResponse](s.cl, client.Post(path(c.ID, "/wait"), url.Values{"condition": {"not-running"}}))
				if errs[i] = err; err == nil {
					s.tool.Note("container " + c.name() + " ended with exit code " + itoa(int(r.StatusCode)))
					codes <- int(r.StatusCode)
				}
			})
		}
		if down {
			code := <-codes
			return errors.Join(s.down(&downFlags{}, nil, nil), exitWith(code))
		}
		wg.Wait()
		close(codes)
		worst := 0
		for code := range codes {
			worst = max(worst, code)
		}
		return errors.Join(errors.Join(errs...), exitWith(worst))
	})
	return c
}

func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return cli.ExitWith(code)
}

func (s *stack) cpCommand() *cobra.Command {
	var archive, follow bool
	var index int
	c := &cobra.Command{Use: "cp [OPTIONS] SERVICE:PATH PATH|- | PATH|- SERVICE:PATH", Short: "Copy files between a container and this machine", Args: cobra.ExactArgs(2)}
	c.Flags().BoolVarP(&archive, "archive", "a", false, "Keep owners")
	c.Flags().BoolVarP(&follow, "follow-link", "L", false, "Copy what a symbolic link names, not the link")
	c.Flags().IntVar(&index, "index", 0, "Number of the container, if the service has several")
	c.Flags().Bool("all", false, "Accepted for docker's sake")
	c.Flags().Lookup("all").Hidden = true
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.openNamed(); err != nil {
			return err
		}
		line := []string{"cp"}
		if archive {
			line = append(line, "--archive")
		}
		if follow {
			line = append(line, "--follow-link")
		}
		for _, a := range args {
			service, rest, ok := strings.Cut(a, ":")
			if !ok || strings.HasPrefix(service, ".") || strings.ContainsRune(service, '/') {
				line = append(line, a)
				continue
			}
			one, err := s.one(service, index, false)
			if err != nil {
				return err
			}
			line = append(line, one.ID+":"+rest)
		}
		return s.tool.Command(line...)
	}
	return c
}

func (s *stack) attachCommand() *cobra.Command {
	var keys string
	var index int
	var noStdin, proxy bool
	c := &cobra.Command{Use: "attach [OPTIONS] SERVICE", Short: "Join the terminal to a container", Args: cobra.ExactArgs(1)}
	c.Flags().StringVar(&keys, "detach-keys", "", "Keys that leave it running, as in ctrl-p,ctrl-q")
	c.Flags().IntVar(&index, "index", 0, "Number of the container, if the service has several")
	c.Flags().BoolVar(&noStdin, "no-stdin", false, "Do not attach standard input")
	c.Flags().BoolVar(&proxy, "sig-proxy", true, "Pass signals on to it")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.openNamed(args[0]); err != nil {
			return err
		}
		one, err := s.one(args[0], index, true)
		if err != nil {
			return err
		}
		line := []string{"attach", fmt.Sprintf("--no-stdin=%t", noStdin), fmt.Sprintf("--sig-proxy=%t", proxy)}
		if keys != "" {
			line = append(line, "--detach-keys", keys)
		}
		return s.tool.Command(append(line, one.ID)...)
	}
	return c
}

func (s *stack) statsCommand() *cobra.Command {
	var all, noStream, noTrunc bool
	var format string
	c := &cobra.Command{Use: "stats [OPTIONS] [SERVICE]", Short: "Show what containers use, as it changes"}
	c.Flags().BoolVarP(&all, "all", "a", false, "Also containers that do not run")
	c.Flags().StringVar(&format, "format", "", "How to print: table, json, table TEMPLATE or a Go template")
	c.Flags().BoolVar(&noStream, "no-stream", false, "Print once and end")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "Do not shorten anything")
	c.RunE = s.verb(func(args []string) error {
		f, err := s.chosen(args, false)
		if err != nil {
			return err
		}
		if !all {
			f = f.which((*found).running)
		}
		if len(f) == 0 {
			return errors.New("no container of the project runs")
		}
		line := []string{"stats", fmt.Sprintf("--no-stream=%t", noStream), fmt.Sprintf("--no-trunc=%t", noTrunc)}
		if format != "" {
			line = append(line, "--format", format)
		}
		for _, c := range f {
			line = append(line, c.name())
		}
		return s.tool.Command(line...)
	})
	return c
}

func (s *stack) versionCommand() *cobra.Command {
	var short bool
	var format string
	c := &cobra.Command{Use: "version [OPTIONS]", Short: "Show the version", Args: cobra.NoArgs}
	c.Flags().BoolVar(&short, "short", false, "Print the number only")
	c.Flags().StringVarP(&format, "format", "f", "pretty", "How to print: pretty or json")
	c.RunE = func(*cobra.Command, []string) error { return s.printVersion(format, short) }
	return c
}

func (s *stack) printVersion(format string, short bool) error {
	text := "kist compose version " + cli.Version + " (speaks Compose " + model.Spoken + ")"
	switch {
	case short:
		text = cli.Version
	case format == "json":
		raw, err := json.Marshal(map[string]string{"version": cli.Version, "compose": model.Spoken})
		if err != nil {
			return err
		}
		text = string(raw)
	}
	_, err := fmt.Println(text)
	return err
}
