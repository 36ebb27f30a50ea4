package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
)

// upFlags are those of up, and of the commands that do a part of it.
type upFlags struct {
	images                                  imageWishes
	scale                                   []string
	removeOrphans, force, noRecreate        bool
	recreateDeps, noDeps, freshVolumes      bool
	timeout                                 int
	detach, wait, noStart, watch, rolling   bool
	waitTimeout                             int
	abortOnExit, abortOnFailure, menu       bool
	exitCodeFrom                            string
	attach, noAttach                        []string
	attachDependencies                      bool
	noColour, noPrefix, timestamps, confirm bool
}

func (f *upFlags) declareCreate(fs *pflag.FlagSet) {
	fs.BoolVar(&f.images.build, "build", false, "Build images before")
	fs.BoolVar(&f.images.noBuild, "no-build", false, "Build nothing, even what is missing")
	fs.StringVar(&f.images.pull, "pull", "policy", "When to pull images: always, missing, never, build, or policy for what the file says")
	fs.BoolVar(&f.images.quietPull, "quiet-pull", false, "Do not show how far pulls are")
	fs.BoolVar(&f.removeOrphans, "remove-orphans", false, "Remove containers of services that the file no longer has")
	fs.BoolVar(&f.force, "force-recreate", false, "Make containers anew though nothing changed")
	fs.BoolVar(&f.noRecreate, "no-recreate", false, "Leave containers that there are as they are")
	fs.StringArrayVar(&f.scale, "scale", nil, "Number of containers: SERVICE=NUMBER")
	fs.BoolVarP(&f.confirm, "yes", "y", false, "Accepted for docker's sake")
	fs.Lookup("yes").Hidden = true
}

func (s *stack) upCommand() *cobra.Command {
	var f upFlags
	c := &cobra.Command{Use: "up [OPTIONS] [SERVICE...]", Short: "Create and start what is missing or changed"}
	fs := c.Flags()
	f.declareCreate(fs)
	fs.BoolVarP(&f.detach, "detach", "d", false, "Do not stay to show what containers print")
	fs.BoolVar(&f.wait, "wait", false, "Wait until all are running or healthy; implies -d")
	fs.IntVar(&f.waitTimeout, "wait-timeout", 0, "Most seconds to wait")
	fs.BoolVar(&f.rolling, "rolling", false, "Replace what changed without a moment when nobody answers")
	fs.BoolVar(&f.noStart, "no-start", false, "Create and do not start")
	fs.BoolVar(&f.noDeps, "no-deps", false, "Leave alone what the services depend on")
	fs.BoolVar(&f.recreateDeps, "always-recreate-deps", false, "Make anew also what the services depend on")
	fs.BoolVarP(&f.freshVolumes, "renew-anon-volumes", "V", false, "Do not keep volumes without a name")
	fs.IntVarP(&f.timeout, "timeout", "t", 0, "Seconds until a container that is to stop is killed")
	fs.BoolVar(&f.abortOnExit, "abort-on-container-exit", false, "Stop all when one container ends")
	fs.BoolVar(&f.abortOnFailure, "abort-on-container-failure", false, "Stop all when one container fails")
	fs.StringVar(&f.exitCodeFrom, "exit-code-from", "", "End as a service's container does, and stop all then")
	fs.StringArrayVar(&f.attach, "attach", nil, "Show only what these services print")
	fs.StringArrayVar(&f.noAttach, "no-attach", nil, "Do not show what these services print")
	fs.BoolVar(&f.attachDependencies, "attach-dependencies", false, "Show also what those print that the services depend on")
	fs.BoolVar(&f.noColour, "no-color", false, "Show what containers print without colours")
	fs.BoolVar(&f.noPrefix, "no-log-prefix", false, "Show it without the containers' names")
	fs.BoolVar(&f.timestamps, "timestamps", false, "Show it with times")
	fs.BoolVarP(&f.watch, "watch", "w", false, "Stay, and bring changed files into the containers")
	fs.BoolVar(&f.menu, "menu", false, "Accepted for docker's sake")
	fs.Lookup("menu").Hidden = true
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := f.check(); err != nil {
			return err
		}
		var patience *int
		if c.Flags().Changed("timeout") {
			patience = &f.timeout
		}
		return s.up(&f, patience, args)
	}
	return c
}

// check refuses flags that contradict each other.
func (f *upFlags) check() error {
	attached := f.abortOnExit || f.abortOnFailure || f.exitCodeFrom != "" || len(f.attach) > 0 || f.attachDependencies
	switch {
	case f.force && f.noRecreate:
		return errors.New("--force-recreate and --no-recreate contradict each other")
	case f.images.build && f.images.noBuild:
		return errors.New("--build and --no-build contradict each other")
	case f.wait && (attached || f.watch):
		return errors.New("--wait ends when all are ready, so there is nobody to attach, to watch, or to hear of an end")
	case f.detach && (attached || f.watch):
		return errors.New("-d ends at once, so there is nobody to attach, to watch, or to hear of an end")
	case f.recreateDeps && f.noRecreate:
		return errors.New("--always-recreate-deps and --no-recreate contradict each other")
	case f.rolling && (f.noRecreate || f.noStart):
		return errors.New("--rolling replaces containers: it contradicts --no-recreate and --no-start")
	case !slices.Contains([]string{"policy", "always", "missing", "never", "build", "if_not_present"}, f.images.pull):
		return fmt.Errorf("invalid --pull %q: must be always, missing, never, build or policy", f.images.pull)
	}
	return nil
}

// up makes a project as its file says.
func (s *stack) up(f *upFlags, patience *int, targets []string) error {
	if f.exitCodeFrom != "" {
		f.abortOnExit = true
	}
	if err := s.open(targets...); err != nil {
		return err
	}
	if f.exitCodeFrom != "" {
		if err := s.known(nil, []string{f.exitCodeFrom}); err != nil {
			return err
		}
	}
	g, err := s.converge(f, patience, targets)
	s.board.Close()
	if err != nil {
		return err
	}
	if f.wait {
		if err := s.waitForAll(g, f.waitTimeout); err != nil {
			return err
		}
	}
	if f.noStart {
		return nil
	}
	if f.detach || f.wait {
		s.sayLinks(g)
		return nil
	}
	s.sayLinks(g)
	return s.attend(g, f, targets)
}

// converge makes the project's containers what the file says they are.
func (s *stack) converge(f *upFlags, patience *int, targets []string) (*goal, error) {
	g, err := s.newGoal(f, targets)
	if err != nil {
		return nil, err
	}
	g.patience = patience
	if g.rolling {
		if err := s.checkRolling(); err != nil {
			return nil, err
		}
	}
	if err := s.prepare(g, f); err != nil {
		return nil, err
	}
	if err := s.create(g); err != nil {
		return nil, err
	}
	if f.noStart {
		return g, s.settle(g)
	}
	return g, s.start(context.Background(), g)
}

// settle gives created containers their places without starting them.
func (s *stack) settle(g *goal) error {
	return each(s, g.order(), func(name string) error {
		w := g.wants[name]
		for _, c := range w.surplus {
			if err := s.endContainer(c, g.hooksOf(c), g.patience, true, true); err != nil {
				return err
			}
		}
		for _, r := range w.replicas {
			if r.fresh {
				if err := s.replace(g, w, r); err != nil {
					return err
				}
			}
			if r.now == nil || r.fresh {
				s.set("Container", r.label(w), "created", screen.Done)
			}
		}
		return nil
	})
}

// orphans tells of containers of services that the file no longer has, or removes them.
func (s *stack) orphans(g *goal, remove bool) error {
	ignore, _ := strconv.ParseBool(os.Getenv("COMPOSE_IGNORE_ORPHANS"))  // What is no truth is a no.
	removes, _ := strconv.ParseBool(os.Getenv("COMPOSE_REMOVE_ORPHANS")) // As above.
	known := append(s.project.ServiceNames(), s.project.DisabledServiceNames()...)
	orphans := g.present.which(func(c *found) bool {
		if c.oneOff() {
			return !c.running() && c.Labels[model.LabelHook] == "" && remove
		}
		return !slices.Contains(known, c.service())
	})
	if len(orphans) == 0 {
		return nil
	}
	if remove || removes {
		return each(s, orphans, func(c *found) error { return s.endContainer(c, nil, g.patience, true, true) })
	}
	if ignore {
		return nil
	}
	var names []string
	for _, c := range orphans {
		names = append(names, c.name())
	}
	s.board.Note("warning: " + strings.Join(names, ", ") + ": of this project, but the file has no such service; --remove-orphans removes them")
	return nil
}

// waitForAll waits until what was started is ready. One that has ended well is.
func (s *stack) waitForAll(g *goal, seconds int) error {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	}
	defer cancel()
	defer s.board.Close()
	jobs := map[string]bool{}
	for _, name := range g.order() {
		for dep, d := range g.p.Services[name].DependsOn {
			jobs[dep] = jobs[dep] || d.Condition == types.ServiceConditionCompletedSuccessfully
		}
	}
	names := slices.DeleteFunc(g.order(), func(n string) bool { return jobs[n] || g.wants[n] == nil })
	return each(s, names, func(name string) error {
		return s.await(ctx, name, conditionRunning, g.wants[name].members())
	})
}

// sayLinks tells, on a terminal, where published ports answer and for whom.
func (s *stack) sayLinks(g *goal) {
	if _, _, ok := s.tool.Lively(); !ok {
		return
	}
	for _, name := range g.order() {
		w := g.wants[name]
		if w == nil || len(w.service.Ports) == 0 {
			continue
		}
		for _, r := range w.replicas {
			in, err := s.inspect(r.id)
			if err != nil || in.NetworkSettings == nil {
				continue
			}
			for _, line := range cli.Reachable(in.NetworkSettings.Ports) {
				s.tool.Note(r.label(w) + ": " + line)
			}
		}
	}
}

func (s *stack) createCommand() *cobra.Command {
	var f upFlags
	c := &cobra.Command{Use: "create [OPTIONS] [SERVICE...]", Short: "Create containers and do not start them"}
	f.declareCreate(c.Flags())
	c.RunE = func(_ *cobra.Command, args []string) error {
		f.noStart = true
		if err := f.check(); err != nil {
			return err
		}
		return s.up(&f, nil, args)
	}
	return c
}

func (s *stack) scaleCommand() *cobra.Command {
	f := upFlags{images: imageWishes{pull: "policy"}, detach: true}
	c := &cobra.Command{Use: "scale [OPTIONS] SERVICE=NUMBER...", Short: "Set the number of services' containers", Args: cobra.MinimumNArgs(1)}
	c.Flags().BoolVar(&f.noDeps, "no-deps", false, "Leave alone what the services depend on")
	c.RunE = func(_ *cobra.Command, args []string) error {
		f.scale = args
		var targets []string
		for _, a := range args {
			name, _, _ := strings.Cut(a, "=")
			targets = append(targets, name)
		}
		return s.up(&f, nil, targets)
	}
	return c
}
