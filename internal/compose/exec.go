package compose

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/fault"
)

type execFlags struct {
	detach, privileged, noTTY, interactive bool
	env                                    []string
	index                                  int
	user, workdir                          string
}

func (s *stack) execCommand() *cobra.Command {
	var f execFlags
	c := &cobra.Command{Use: "exec [OPTIONS] SERVICE COMMAND [ARGS...]", Short: "Run a further command in a running container", Args: cobra.MinimumNArgs(2)}
	fs := c.Flags()
	fs.SetInterspersed(false)
	fs.BoolVarP(&f.detach, "detach", "d", false, "Do not wait for it")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "Set a variable: NAME=value, or NAME to pass on this shell's")
	fs.IntVar(&f.index, "index", 0, "Number of the container, if the service has several")
	fs.BoolVarP(&f.interactive, "interactive", "i", true, "Pass standard input on")
	fs.BoolVarP(&f.noTTY, "no-TTY", "T", false, "Give it no terminal")
	fs.BoolVar(&f.noTTY, "no-tty", false, "Give it no terminal")
	fs.BoolVarP(new(bool), "tty", "t", true, "Accepted for docker's sake")
	fs.BoolVar(&f.privileged, "privileged", false, "Give the command every right over the host")
	fs.StringVarP(&f.user, "user", "u", "", "User and group: name|uid[:group|gid]")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "Directory to run in")
	fs.Lookup("tty").Hidden, fs.Lookup("no-tty").Hidden = true, true
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.openNamed(args[0]); err != nil {
			return err
		}
		one, err := s.one(args[0], f.index, true)
		if err != nil {
			return err
		}
		in, out := s.tool.Terminals()
		line := []string{"exec"}
		add := func(set bool, words ...string) {
			if set {
				line = append(line, words...)
			}
		}
		add(f.detach, "-d")
		add(f.interactive && !f.detach, "-i")
		add(in && out && !f.noTTY && !f.detach, "-t")
		add(f.privileged, "--privileged")
		add(f.user != "", "--user", f.user)
		add(f.workdir != "", "--workdir", f.workdir)
		for _, e := range f.env {
			add(true, "--env", e)
		}
		return s.tool.Command(append(append(line, one.ID), args[1:]...)...)
	}
	return c
}

// one is a container of a service: that of a number, or the first one, of those that run if one must.
func (s *stack) one(service string, number int, running bool) (*found, error) {
	all, err := s.containers()
	if err != nil {
		return nil, err
	}
	if err := s.known(all, []string{service}); err != nil {
		return nil, err
	}
	own := all.serving().of(service).which(func(c *found) bool { return number == 0 || c.number() == number })
	if running {
		if up := own.which((*found).running); len(up) > 0 {
			return up[0], nil
		}
	}
	f := &fault.Error{
		Code: "compose-no-container", What: "service " + service + " has no container", Try: "kist compose up -d " + service, Class: errdefs.ErrNotFound,
	}
	switch {
	case len(own) > 0 && !running:
		return own[0], nil
	case len(own) > 0:
		f.Code, f.What, f.Class = "compose-not-running", "service "+service+" does not run", errdefs.ErrConflict
		f.Cause, f.Try = own[0].short()+": "+own[0].Status, "kist compose logs "+service
	case number > 0:
		f.What, f.Try = fmt.Sprintf("service %s has no container of number %d", service, number), "kist compose ps -a "+service
	}
	return nil, f
}
