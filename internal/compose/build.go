package compose

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/fault"
)

// buildWishes are what a command asks of builds beyond the file.
type buildWishes struct {
	noCache, pull, quiet, push, check bool
	withDependencies                  bool
	args, ssh                         []string
	provenance, sbom                  string
}

func (s *stack) buildCommand() *cobra.Command {
	var w buildWishes
	var builder, memory string
	c := &cobra.Command{Use: "build [OPTIONS] [SERVICE...]", Short: "Build the images of services"}
	f := c.Flags()
	f.StringArrayVar(&w.args, "build-arg", nil, "Value of an ARG: name=value")
	f.StringVar(&builder, "builder", "", "Accepted for docker's sake")
	f.BoolVar(&w.check, "check", false, "Check the Dockerfiles and build nothing")
	f.StringVarP(&memory, "memory", "m", "", "Accepted for docker's sake")
	f.BoolVar(&w.noCache, "no-cache", false, "Run every step")
	f.StringVar(&w.provenance, "provenance", "", "Say how the image was made")
	f.BoolVar(&w.pull, "pull", false, "Ask registries for newer base images")
	f.BoolVar(&w.push, "push", false, "Send the images to their registries")
	f.BoolVarP(&w.quiet, "quiet", "q", false, "Say nothing but what fails")
	f.StringVar(&w.sbom, "sbom", "", "List what is in the image")
	f.StringArrayVar(&w.ssh, "ssh", nil, "SSH agent or keys: default or id=path")
	f.BoolVar(&w.withDependencies, "with-dependencies", false, "Also the images of what the services depend on")
	for _, hidden := range []string{"builder", "memory"} {
		f.Lookup(hidden).Hidden = true
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.open(args...); err != nil {
			return err
		}
		option := types.IgnoreDependencies
		if w.withDependencies {
			option = types.IncludeDependencies
		}
		p, err := s.project.WithSelectedServices(args, option)
		if err != nil {
			return err
		}
		names := p.ServicesWithBuild()
		slices.Sort(names)
		if len(names) == 0 {
			s.tool.Note("No service has a build section.")
			return nil
		}
		// Contexts of other services are theirs whether they are built now or not.
		return s.buildAll(s.project, names, w)
	}
	return c
}

// buildAll builds the images of services at the same time, but those that other ones begin with before them.
func (s *stack) buildAll(p *types.Project, names []string, w buildWishes) error {
	names, err := withBases(p, names)
	if err != nil {
		return err
	}
	if !s.ownDaemon() {
		return &fault.Error{
			Code: "compose-no-builder", What: "this daemon cannot build for kist compose", Cause: "builds are handed to the builder of kist's own daemon",
			Try: "docker compose build " + strings.Join(names, " "), Class: errdefs.ErrNotImplemented,
		}
	}
	built := map[string]bool{}
	for len(built) < len(names) {
		var jobs []cli.BuildJob
		var now []string
		for _, n := range names {
			if built[n] || slices.ContainsFunc(bases(p, n), func(b string) bool { return !built[b] }) {
				continue
			}
			j, err := buildJob(p, n, w)
			if err != nil {
				return err
			}
			if len(names) > 1 {
				j.Prefix = "[" + n + "] "
			}
			now, jobs = append(now, n), append(jobs, *j)
		}
		if len(jobs) == 0 {
			return fmt.Errorf("the builds of %s begin with each other: %w", strings.Join(names, ", "), errdefs.ErrInvalidArgument)
		}
		if err := s.buildWave(jobs, w.quiet); err != nil {
			return err
		}
		for _, n := range now {
			built[n] = true
		}
	}
	return nil
}

// buildWave builds what can be built at the same time.
func (s *stack) buildWave(jobs []cli.BuildJob, quiet bool) error {
	s.board.Close()
	progress := s.progress
	switch {
	case quiet || progress == "quiet" || progress == "none":
		progress = "quiet"
	case progress == "json":
		progress = "rawjson"
	}
	done, err := s.tool.BuildAll(jobs, progress)
	if err != nil {
		return err
	}
	var errs []error
	for i, d := range done {
		if d.Err != nil {
			errs = append(errs, d.Err)
			continue
		}
		if progress != "quiet" && progress != "rawjson" {
			s.tool.Note("Built " + jobs[i].Name + " (" + cli.ShortID(d.ID) + "): " + d.Summary)
		}
	}
	return errors.Join(errs...)
}

// bases are the services whose images a build begins with (additional_contexts: service:NAME).
func bases(p *types.Project, name string) []string {
	var out []string
	if b := p.Services[name].Build; b != nil {
		for _, c := range b.AdditionalContexts {
			if base, ok := strings.CutPrefix(c, types.ServicePrefix); ok {
				out = append(out, base)
			}
		}
	}
	return out
}

// withBases adds the services that builds begin with.
func withBases(p *types.Project, names []string) ([]string, error) {
	all := slices.Clone(names)
	for i := 0; i < len(all); i++ {
		for _, b := range bases(p, all[i]) {
			if p.Services[b].Build == nil {
				return nil, fmt.Errorf("service %s: additional_contexts names service %s, which is not built: %w", all[i], b, errdefs.ErrInvalidArgument)
			}
			if !slices.Contains(all, b) {
				all = append(all, b)
			}
		}
	}
	return all, nil
}

func isURL(s string) bool { return strings.Contains(s, "://") || strings.HasPrefix(s, "git@") }

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
