package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
)

// stack is a project and the daemon that it lives in.
type stack struct {
	tool    *cli.Tool
	options model.Options
	// progress is how progress is shown, ansi whether with colours, parallel how much is done at the same time.
	progress, ansi string
	parallel       int
	compatibility  bool
	dryRun         bool

	cl *client.Client
	// project is nil where only its name is known.
	project *types.Project
	name    string
	board   *screen.Board
	slots   chan struct{}

	asked sync.Once // whose daemon it is
	own   bool
}

// declare adds the flags before the command.
func (s *stack) declare(fs *pflag.FlagSet) {
	o := &s.options
	fs.StringArrayVarP(&o.Files, "file", "f", nil, "Compose file; several are merged, - is standard input")
	fs.StringVarP(&o.Name, "project-name", "p", "", "Name of the project")
	fs.StringArrayVar(&o.Profiles, "profile", nil, "Profile to make active; * is all")
	fs.StringArrayVar(&o.EnvFiles, "env-file", commaList(os.Getenv("COMPOSE_ENV_FILES")), "File of variables in the place of .env")
	fs.StringVar(&o.Dir, "project-directory", "", "Directory that paths count from (default that of the first file)")
	fs.StringVar(&o.Dir, "workdir", "", "Old name of --project-directory")
	fs.StringVar(&s.progress, "progress", os.Getenv("COMPOSE_PROGRESS"), "How to show progress: auto, tty, plain, json or quiet")
	fs.StringVar(&s.ansi, "ansi", os.Getenv("COMPOSE_ANSI"), "Colours and drawing: never, always or auto")
	parallel, _ := strconv.Atoi(os.Getenv("COMPOSE_PARALLEL_LIMIT")) // As if it were not there, as docker has it.
	fs.IntVar(&s.parallel, "parallel", parallel, "Most requests at the same time (default 32)")
	fs.BoolVar(&s.compatibility, "compatibility", false, "Accepted for docker's sake")
	fs.BoolVar(&s.dryRun, "dry-run", false, "Not served")
	fs.BoolP("verbose", "", false, "Accepted for docker's sake")
	for _, hidden := range []string{"workdir", "compatibility", "dry-run", "verbose"} {
		fs.Lookup(hidden).Hidden = true
	}
}

func commaList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

// mostAtOnce is how many requests are made at the same time where nobody says.
const mostAtOnce = 32

// connect finds the daemon and the way to show progress.
func (s *stack) connect() error {
	if s.dryRun {
		return errors.New("--dry-run is not served; kist compose config shows what would be used")
	}
	var err error
	if s.cl, err = s.tool.Client(); err != nil {
		return err
	}
	if s.board, err = s.newBoard(); err != nil {
		return err
	}
	n := s.parallel
	if n <= 0 {
		n = mostAtOnce
	}
	s.slots = make(chan struct{}, n)
	return nil
}

// newBoard chooses how progress is shown.
func (s *stack) newBoard() (*screen.Board, error) { return s.boardFor(s.progress) }

// boardFor is newBoard for what --progress says.
func (s *stack) boardFor(progress string) (*screen.Board, error) {
	_, _, lively := s.tool.Lively()
	o := screen.Options{Style: screen.Plain, Coloured: os.Getenv("NO_COLOR") == "" && s.ansi != "never" && (lively || s.ansi == "always")}
	o.Size = func() (int, int) {
		if rows, cols, ok := s.tool.Lively(); ok {
			return rows, cols
		}
		return 24, 80
	}
	switch progress {
	case "", "auto":
		if lively && s.ansi != "never" {
			o.Style = screen.Live
		}
	case "tty":
		o.Style = screen.Live
	case "plain":
	case "json":
		o.Style = screen.JSON
	case "quiet", "none":
		o.Style = screen.Quiet
	default:
		return nil, fmt.Errorf("invalid --progress %q: must be auto, tty, plain, json or quiet", progress)
	}
	return screen.New(os.Stderr, o), nil
}

// open reads the project and connects.
func (s *stack) open(services ...string) error {
	if err := s.connect(); err != nil {
		return err
	}
	return s.read(services...)
}

// read reads the project.
func (s *stack) read(services ...string) error {
	p, err := s.options.Load(context.Background(), services...)
	if err != nil {
		return err
	}
	s.project, s.name = p, p.Name
	return nil
}

// openNamed connects, and reads the project as far as there is one: a project that was started is known by its name, too.
// Services that are named must be the project's, if there is a file to know that from.
func (s *stack) openNamed(services ...string) error {
	if err := s.connect(); err != nil {
		return err
	}
	s.name = s.options.GivenName()
	if s.options.Name != "" && len(s.options.Files) == 0 {
		return nil
	}
	s.options.Unresolved = true
	err := s.read(services...)
	if err != nil && s.name != "" && model.IsNoFile(err) {
		return nil
	}
	return err
}

// each does something for all of a list at the same time, as far as there are slots, and returns all failures.
func each[T any](s *stack, list []T, do func(T) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, one := range list {
		wg.Go(func() {
			s.slots <- struct{}{}
			defer func() { <-s.slots }()
			errs[i] = do(one)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// set shows a row.
func (s *stack) set(kind, name, state string, mark screen.Mark) {
	s.board.Set(screen.Row{Kind: kind, Name: name, State: state, Mark: mark})
}

// failed shows a row's failure.
func (s *stack) failed(kind, name, state string) { s.set(kind, name, state, screen.Failed) }

// completeServices lets the shell complete the project's services.
func (s *stack) completeServices(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s.options.Unresolved = true
	if s.read() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.project.ServiceNames(), cobra.ShellCompDirectiveNoFileComp
}
