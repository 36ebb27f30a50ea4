package compose

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
)

// dependsOn is what services depend on: as the file says or, where there is none, as their containers' labels say.
func (s *stack) dependsOn(f fleet) func(string) []string {
	all := map[string][]string{}
	for _, c := range f {
		for name := range model.ReadDependsOn(c.Labels[model.LabelDependsOn]) {
			if !slices.Contains(all[c.service()], name) {
				all[c.service()] = append(all[c.service()], name)
			}
		}
	}
	return func(name string) []string { return all[name] }
}

// chosen are the containers that a command is about.
func (s *stack) chosen(services []string, oneOffs bool) (fleet, error) {
	all, err := s.containers()
	if err != nil {
		return nil, err
	}
	if err := s.known(all, services); err != nil {
		return nil, err
	}
	if !oneOffs {
		all = all.serving()
	}
	return all.of(services...), nil
}

// forward does something for containers, those that others depend on first; backward those last.
func (s *stack) forward(f fleet, do func(*found) error) error { return s.walk(f, false, do) }

func (s *stack) backward(f fleet, do func(*found) error) error { return s.walk(f, true, do) }

func (s *stack) walk(f fleet, back bool, do func(*found) error) error {
	names := f.services()
	order := s.dependsOn(f)
	if back {
		order = reversed(names, order)
	}
	return inOrder(context.Background(), names, order, func(_ context.Context, name string) error {
		return each(s, f.of(name), do)
	})
}

// hooks are those of a container's service before it is stopped.
func (s *stack) hooks(c *found) []types.ServiceHook {
	if s.project == nil {
		return nil
	}
	return s.project.Services[c.service()].PreStop
}

// act does something to a container and shows it.
func (s *stack) act(c *found, doing, done string, do func() error) error {
	s.set("Container", c.short(), doing, screen.Working)
	if err := do(); err != nil && !errdefs.IsNotModified(err) {
		s.failed("Container", c.short(), "not "+done)
		return fmt.Errorf("%s: %w", c.short(), err)
	}
	s.set("Container", c.short(), done, screen.Done)
	return nil
}

// stopServices stops the containers of services.
func (s *stack) stopServices(services []string, patience *int) error {
	f, err := s.chosen(services, false)
	if err != nil {
		return err
	}
	return s.backward(f.which((*found).running), func(c *found) error {
		return s.act(c, "stopping", "stopped", func() error { return s.stopNicely(c, s.hooks(c), patience) })
	})
}

func (s *stack) killServices(services []string, signal string) error {
	f, err := s.chosen(services, false)
	if err != nil {
		return err
	}
	return each(s, f.which((*found).running), func(c *found) error { return s.kill(c, signal) })
}

func (s *stack) kill(c *found, signal string) error {
	return s.act(c, "killing", "killed", func() error {
		err := s.cl.Call(client.Post(path(c.ID, "/kill"), url.Values{"signal": {signal}}))
		if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
			return nil // It has ended meanwhile.
		}
		return err
	})
}

// patienceFlag declares -t and returns what it says.
func patienceFlag(c *cobra.Command) func() *int {
	var n int
	c.Flags().IntVarP(&n, "timeout", "t", 0, "Seconds until a container that does not stop is killed")
	return func() *int {
		if c.Flags().Changed("timeout") {
			return &n
		}
		return nil
	}
}

func (s *stack) stopCommand() *cobra.Command {
	c := &cobra.Command{Use: "stop [OPTIONS] [SERVICE...]", Short: "Stop containers"}
	patience := patienceFlag(c)
	c.RunE = s.verb(func(args []string) error { return s.stopServices(args, patience()) })
	return c
}

// verb is a command on containers that there are.
func (s *stack) verb(do func(args []string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		if err := s.openNamed(args...); err != nil {
			return err
		}
		defer s.board.Close()
		return do(args)
	}
}

func (s *stack) startCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "start [OPTIONS] [SERVICE...]", Short: "Start containers that were stopped"}
	c.Flags().BoolVar(&wait, "wait", false, "Wait until they are running or healthy")
	c.RunE = s.verb(func(args []string) error {
		f, err := s.chosen(args, false)
		if err != nil {
			return err
		}
		if len(f) == 0 {
			return errors.New("there is no container to start; kist compose up makes them")
		}
		all := f
		err = s.forward(f, func(c *found) error {
			if c.running() {
				s.board.Set(runningRow(c.short(), c, screen.Unchanged))
				return nil
			}
			if err := s.dependenciesOf(c, all); err != nil {
				return err
			}
			return s.act(c, "starting", "started", func() error {
				if err := s.startContainer(c.ID); err != nil {
					return err
				}
				if s.project == nil {
					return nil
				}
				return s.runHooks(s.project.Services[c.service()].PostStart, "post_start", c.short(), c.ID)
			})
		})
		if err != nil || !wait {
			return err
		}
		return each(s, f, func(c *found) error {
			return s.await(context.Background(), c.service(), conditionRunning, []member{{c.ID, c.short()}})
		})
	})
	return c
}

// dependenciesOf waits for what a container's label says that it depends on.
func (s *stack) dependenciesOf(c *found, all fleet) error {
	for name, d := range model.ReadDependsOn(c.Labels[model.LabelDependsOn]) {
		if d.Condition != types.ServiceConditionHealthy && d.Condition != types.ServiceConditionCompletedSuccessfully {
			continue
		}
		for _, o := range all.of(name) {
			if err := s.await(context.Background(), name, d.Condition, []member{{o.ID, o.short()}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stack) restartCommand() *cobra.Command {
	var noDeps bool
	c := &cobra.Command{Use: "restart [OPTIONS] [SERVICE...]", Short: "Stop containers and start them again"}
	patience := patienceFlag(c)
	c.Flags().BoolVar(&noDeps, "no-deps", false, "Leave alone what depends on the services")
	c.RunE = s.verb(func(args []string) error {
		f, err := s.chosen(args, false)
		if err != nil {
			return err
		}
		if !noDeps && len(args) > 0 {
			if f, err = s.withFollowers(f); err != nil {
				return err
			}
		}
		return s.forward(f, func(c *found) error {
			return s.act(c, "restarting", "restarted", func() error {
				if err := s.stopNicely(c, s.hooks(c), patience()); err != nil {
					return err
				}
				if err := s.startContainer(c.ID); err != nil {
					return err
				}
				if s.project == nil {
					return nil
				}
				return s.runHooks(s.project.Services[c.service()].PostStart, "post_start", c.short(), c.ID)
			})
		})
	})
	return c
}

// withFollowers adds the containers that want to be restarted with those that they depend on.
func (s *stack) withFollowers(f fleet) (fleet, error) {
	all, err := s.containers()
	if err != nil {
		return nil, err
	}
	names := f.services()
	for _, c := range all.serving() {
		for name, d := range model.ReadDependsOn(c.Labels[model.LabelDependsOn]) {
			if d.Restart && slices.Contains(names, name) && !slices.Contains(names, c.service()) {
				f = append(f, c)
			}
		}
	}
	return f, nil
}

func (s *stack) killCommand() *cobra.Command {
	var signal string
	var orphans bool
	c := &cobra.Command{Use: "kill [OPTIONS] [SERVICE...]", Short: "Send a signal to containers"}
	c.Flags().StringVarP(&signal, "signal", "s", "SIGKILL", "Signal to send")
	c.Flags().BoolVar(&orphans, "remove-orphans", false, "Remove containers of services that the file no longer has")
	c.RunE = s.verb(func(args []string) error {
		if err := s.killServices(args, signal); err != nil || !orphans {
			return err
		}
		return s.removeOrphans(nil)
	})
	return c
}

// removeOrphans removes containers of services that the file no longer has.
func (s *stack) removeOrphans(patience *int) error {
	if s.project == nil {
		return nil
	}
	all, err := s.containers()
	if err != nil {
		return err
	}
	known := append(s.project.ServiceNames(), s.project.DisabledServiceNames()...)
	return each(s, all.which(func(c *found) bool { return !slices.Contains(known, c.service()) }), func(c *found) error {
		return s.endContainer(c, nil, patience, true, true)
	})
}

func (s *stack) rmCommand() *cobra.Command {
	var force, stop, volumes, all bool
	c := &cobra.Command{Use: "rm [OPTIONS] [SERVICE...]", Short: "Remove containers that do not run"}
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not ask")
	c.Flags().BoolVarP(&stop, "stop", "s", false, "Stop them before")
	c.Flags().BoolVarP(&volumes, "volumes", "v", false, "Remove their volumes that have no name")
	c.Flags().BoolVarP(&all, "all", "a", false, "Accepted for docker's sake")
	c.Flags().Lookup("all").Hidden = true
	c.RunE = s.verb(func(args []string) error {
		if stop {
			if err := s.stopServices(args, nil); err != nil {
				return err
			}
		}
		f, err := s.chosen(args, true)
		if err != nil {
			return err
		}
		f = f.which(func(c *found) bool { return !c.running() })
		if len(f) == 0 {
			s.tool.Note("No stopped containers")
			return nil
		}
		if !force {
			var names []string
			for _, c := range f {
				names = append(names, c.name())
			}
			s.board.Close()
			if yes, err := s.tool.Confirm("Remove " + strings.Join(names, ", ") + "?"); err != nil || !yes {
				return err
			}
		}
		return each(s, f, func(c *found) error {
			return s.act(c, "removing", "removed", func() error { return s.removeGone(c.ID, volumes) })
		})
	})
	return c
}

func (s *stack) pauseCommand() *cobra.Command {
	c := &cobra.Command{Use: "pause [SERVICE...]", Short: "Freeze all processes of containers"}
	c.RunE = s.verb(func(args []string) error {
		f, err := s.chosen(args, false)
		if err != nil {
			return err
		}
		return each(s, f.which(func(c *found) bool { return c.State == container.StateRunning }), func(c *found) error {
			return s.act(c, "pausing", "paused", func() error { return s.cl.Call(client.Post(path(c.ID, "/pause"), nil)) })
		})
	})
	return c
}

func (s *stack) unpauseCommand() *cobra.Command {
	c := &cobra.Command{Use: "unpause [SERVICE...]", Short: "Let frozen containers go on"}
	c.RunE = s.verb(func(args []string) error {
		f, err := s.chosen(args, false)
		if err != nil {
			return err
		}
		return each(s, f.which(func(c *found) bool { return c.State == container.StatePaused }), func(c *found) error {
			return s.act(c, "unpausing", "running", func() error { return s.unpause(c.ID) })
		})
	})
	return c
}
