package compose

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/fault"
)

func (s *stack) watchCommand() *cobra.Command {
	var noUp, prune, quiet bool
	c := &cobra.Command{Use: "watch [OPTIONS] [SERVICE...]", Short: "Bring changed files into containers"}
	c.Flags().BoolVar(&noUp, "no-up", false, "Do not build and start the services before")
	c.Flags().BoolVar(&prune, "prune", true, "Accepted for docker's sake")
	c.Flags().BoolVar(&quiet, "quiet", false, "Do not show builds")
	c.Flags().Lookup("prune").Hidden = true
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.open(args...); err != nil {
			return err
		}
		f := &upFlags{images: imageWishes{pull: "policy", build: !noUp}, detach: true}
		var g *goal
		var err error
		if noUp {
			g, err = s.newGoal(f, args)
		} else {
			g, err = s.converge(f, nil, args)
		}
		s.board.Close()
		if err != nil {
			return err
		}
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
		ended := make(chan error, 1)
		go func() { ended <- s.watch(g, args, quiet) }()
		select {
		case <-interrupted:
			return nil
		case err := <-ended:
			return err
		}
	}
	return c
}

// rule is one entry of develop.watch.
type rule struct {
	service string
	types.Trigger
	ignore, include *patternmatcher.PatternMatcher
	// back are the beginnings of what is taken back in below what is ignored.
	back []string
}

// watch does for changed files what the services' develop.watch says, until it fails.
func (s *stack) watch(g *goal, targets []string, quiet bool) error {
	rules, err := watchRules(g, targets)
	if err != nil {
		return err
	}
	var dirs []string
	for _, r := range rules {
		dir := r.Path
		if st, err := os.Stat(dir); err != nil {
			return fmt.Errorf("service %s: watch: %w", r.service, err)
		} else if !st.IsDir() {
			dir = filepath.Dir(dir)
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	n, err := newNotices(dirs, func(path string) bool {
		return !slices.ContainsFunc(rules, func(r *rule) bool { return r.mayWant(path) })
	})
	if err != nil {
		return err
	}
	defer n.Close()
	for _, r := range rules {
		if r.InitialSync {
			if err := s.syncAll(r); err != nil {
				return err
			}
		}
	}
	s.tool.Note("Watching " + strings.Join(dirs, ", "))
	for {
		paths, all, err := n.next()
		if err != nil {
			return err
		}
		if all {
			for _, r := range rules {
				if err := s.syncAll(r); err != nil {
					s.tool.Complain(err)
				}
			}
			continue
		}
		// A mistake in a file is mended by the next change of it.
		for _, err := range s.changed(rules, paths, quiet) {
			s.tool.Complain(err)
		}
	}
}

// watchRules are those of the services.
func watchRules(g *goal, targets []string) ([]*rule, error) {
	var rules []*rule
	for _, name := range g.order() {
		svc := g.p.Services[name]
		if svc.Develop == nil || len(targets) > 0 && !slices.Contains(targets, name) {
			continue
		}
		for _, t := range svc.Develop.Watch {
			r := &rule{service: name, Trigger: t}
			if err := r.compile(&svc); err != nil {
				return nil, fmt.Errorf("service %s: watch %s: %w", name, t.Path, err)
			}
			rules = append(rules, r)
		}
	}
	if len(rules) == 0 {
		return nil, &fault.Error{
			Code: "compose-no-watch", What: "there is nothing to watch", Cause: "no service has develop: with watch:",
			Try: "develop: {watch: [{path: ., action: sync, target: /app}]}", Class: errdefs.ErrInvalidArgument,
		}
	}
	return rules, nil
}

// nobodys are files that editors make for themselves, and those of version control.
var nobodys = []string{".git", "**/.git", "**/*~", "**/.*.sw?", "**/.#*", "**/4913", "**/*___jb_tmp___", "**/*___jb_old___"}

// compile reads a rule's patterns. What a build leaves out is left out here, too.
func (r *rule) compile(svc *types.ServiceConfig) (err error) {
	switch r.Action {
	case types.WatchActionRebuild:
		if svc.Build == nil {
			return fmt.Errorf("action rebuild needs a build section: %w", errdefs.ErrInvalidArgument)
		}
	case types.WatchActionSync, types.WatchActionSyncRestart, types.WatchActionSyncExec, types.WatchActionRestart:
	default:
		return fmt.Errorf("there is no action %q: %w", r.Action, errdefs.ErrInvalidArgument)
	}
	patterns := slices.Concat(nobodys, r.Ignore)
	if b := svc.Build; b != nil && !isURL(b.Context) {
		more, err := ignored(b.Context, r.Path)
		if err != nil {
			return err
		}
		patterns = append(patterns, more...)
	}
	if r.ignore, err = patternmatcher.New(patterns); err != nil {
		return err
	}
	for _, p := range patterns {
		if p, ok := strings.CutPrefix(strings.TrimSpace(p), "!"); ok {
			first, _, _ := strings.Cut(filepath.Clean(p), "/")
			r.back = append(r.back, first)
		}
	}
	if len(r.Include) > 0 {
		r.include, err = patternmatcher.New(r.Include)
	}
	return err
}

// ignored are the patterns of a context's .dockerignore, as seen from a directory in it.
func ignored(context, dir string) ([]string, error) {
	f, err := os.Open(filepath.Join(context, ".dockerignore"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rel, err := filepath.Rel(context, dir)
	if err != nil || rel != "." {
		return nil, nil // A rule about another place: the file says nothing of it.
	}
	return ignorefile.ReadAll(f)
}

// wants tells whether a rule is about a path.
func (r *rule) wants(path string) bool {
	rel, ok := r.relative(path)
	if !ok {
		return false
	}
	if rel == "." {
		return true // The file itself is what is watched.
	}
	if out, err := r.ignore.MatchesOrParentMatches(rel); err != nil || out {
		return false
	}
	if r.include == nil {
		return true
	}
	in, err := r.include.MatchesOrParentMatches(rel)
	return err == nil && in
}

// mayWant is wants for a directory, too, below which there may be files that are wanted.
func (r *rule) mayWant(path string) bool {
	rel, ok := r.relative(path)
	if !ok {
		// The directory of a single file that is watched.
		return strings.HasPrefix(r.Path, path+string(filepath.Separator))
	}
	if rel == "." {
		return true
	}
	out, err := r.ignore.MatchesOrParentMatches(rel)
	if err != nil || !out {
		return err == nil
	}
	first, _, _ := strings.Cut(rel, "/")
	return slices.ContainsFunc(r.back, func(b string) bool { return b == first || strings.ContainsAny(b, `*?[\`) })
}

func (r *rule) relative(path string) (string, bool) {
	rel, err := filepath.Rel(r.Path, path)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// changed does what the rules say about changed paths, and returns what failed.
func (s *stack) changed(rules []*rule, paths []string, quiet bool) []error {
	var errs []error
	var rebuild []string
	for _, r := range rules {
		if r.Action == types.WatchActionRebuild && slices.ContainsFunc(paths, r.wants) && !slices.Contains(rebuild, r.service) {
			rebuild = append(rebuild, r.service)
		}
	}
	for _, r := range rules {
		if r.Action == types.WatchActionRebuild || slices.Contains(rebuild, r.service) {
			continue
		}
		var own []string
		for _, p := range paths {
			if r.wants(p) {
				own = append(own, p)
			}
		}
		if len(own) > 0 {
			if err := s.follows(r, own); err != nil {
				errs = append(errs, fmt.Errorf("service %s: %w", r.service, err))
			}
		}
	}
	if len(rebuild) > 0 {
		if err := s.rebuild(rebuild, quiet); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// follows does what a rule says about its paths.
func (s *stack) follows(r *rule, paths []string) error {
	all, err := s.containers()
	if err != nil {
		return err
	}
	own := all.serving().of(r.service).which((*found).running)
	if r.Action != types.WatchActionRestart {
		if err := s.sync(r, own, paths); err != nil {
			return err
		}
		s.tool.Note(fmt.Sprintf("%s: brought %s", r.service, counted(len(paths), "file")))
	}
	switch r.Action {
	case types.WatchActionRestart, types.WatchActionSyncRestart:
		err = each(s, own, func(c *found) error {
			if err := s.stopNicely(c, s.hooks(c), nil); err != nil {
				return err
			}
			return s.startContainer(c.ID)
		})
		if err == nil {
			s.tool.Note(r.service + ": restarted")
		}
	case types.WatchActionSyncExec:
		err = each(s, own, func(c *found) error { return s.runHooks([]types.ServiceHook{r.Exec}, "exec", c.short(), c.ID) })
	}
	return err
}

func counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return itoa(n) + " " + word + "s"
}

// rebuild builds services anew and replaces their containers.
func (s *stack) rebuild(services []string, quiet bool) error {
	s.tool.Note(strings.Join(services, ", ") + ": building")
	if quiet {
		before := s.progress
		s.progress = "quiet"
		defer func() { s.progress = before }()
	}
	f := &upFlags{images: imageWishes{pull: "policy", build: true}, noDeps: true, detach: true}
	_, err := s.converge(f, nil, services)
	s.board.Close()
	return err
}
