package compose

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/compose/model"
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

// buildJob is a service's build as kist build is asked for it.
func buildJob(p *types.Project, name string, w buildWishes) (*cli.BuildJob, error) {
	svc := p.Services[name]
	b := svc.Build
	j := &cli.BuildJob{Name: name, Dockerfile: b.DockerfileInline, Secrets: map[string][]byte{}}
	add := func(flag string, values ...string) {
		for _, v := range values {
			j.Args = append(j.Args, "--"+flag+"="+v)
		}
	}
	on := func(flag string, set bool) {
		if set {
			j.Args = append(j.Args, "--"+flag)
		}
	}
	add("tag", append([]string{model.ImageName(p.Name, &svc)}, b.Tags...)...)
	switch {
	case b.DockerfileInline != "":
		add("file", "-")
	case b.Dockerfile != "" && !isURL(b.Context) && !filepath.IsAbs(b.Dockerfile):
		add("file", filepath.Join(b.Context, b.Dockerfile))
	case b.Dockerfile != "":
		add("file", b.Dockerfile)
	}
	for _, k := range slices.Sorted(maps.Keys(b.Args)) {
		if v := b.Args[k]; v != nil {
			add("build-arg", k+"="+*v)
		} else if v, ok := p.Environment[k]; ok {
			add("build-arg", k+"="+v)
		}
	}
	add("build-arg", w.args...)
	for _, k := range slices.Sorted(maps.Keys(b.AdditionalContexts)) {
		add("build-context", k+"="+contextRef(p, b.AdditionalContexts[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(b.Labels)) {
		add("label", k+"="+b.Labels[k])
	}
	add("label", model.LabelProject+"="+p.Name, model.LabelService+"="+name)
	for _, k := range b.SSH {
		add("ssh", strings.TrimSuffix(k.ID+"="+k.Path, "="))
	}
	add("ssh", w.ssh...)
	add("cache-from", b.CacheFrom...)
	add("cache-to", b.CacheTo...)
	add("no-cache-filter", b.NoCacheFilter...)
	add("add-host", sorted(b.ExtraHosts.AsList("="))...)
	add("platform", platforms(p, &svc)...)
	add("allow", b.Entitlements...)
	on("allow=security.insecure", b.Privileged && !slices.Contains(b.Entitlements, "security.insecure"))
	on("no-cache", b.NoCache || w.noCache)
	on("pull", b.Pull || w.pull)
	on("push", w.push)
	on("check", w.check)
	for _, o := range []struct{ flag, value string }{
		{"target", b.Target}, {"network", b.Network}, {"provenance", cmp.Or(w.provenance, b.Provenance)}, {"sbom", cmp.Or(w.sbom, b.SBOM)},
	} {
		if o.value != "" {
			add(o.flag, o.value)
		}
	}
	if b.ShmSize > 0 {
		add("shm-size", strconv.FormatInt(int64(b.ShmSize), 10))
	}
	for _, k := range slices.Sorted(maps.Keys(b.Ulimits)) {
		u := b.Ulimits[k]
		soft, hard := u.Single, u.Single
		if u.Soft != 0 || u.Hard != 0 {
			soft, hard = u.Soft, u.Hard
		}
		add("ulimit", fmt.Sprintf("%s=%d:%d", k, soft, hard))
	}
	if err := buildSecrets(p, name, b, j); err != nil {
		return nil, err
	}
	j.Args = append(j.Args, "--", b.Context)
	return j, nil
}

// buildSecrets reads the secrets of a build.
func buildSecrets(p *types.Project, name string, b *types.BuildConfig, j *cli.BuildJob) error {
	for _, r := range b.Secrets {
		id := r.Target
		if id == "" {
			id = r.Source
		}
		o := p.Secrets[r.Source]
		switch {
		case o.Content != "":
			j.Secrets[id] = []byte(o.Content)
		case o.Environment != "":
			v, ok := p.Environment[o.Environment]
			if !ok {
				return fmt.Errorf("service %s: secret %s: the variable %s is not set: %w", name, r.Source, o.Environment, errdefs.ErrInvalidArgument)
			}
			j.Secrets[id] = []byte(v)
		case o.File != "":
			raw, err := os.ReadFile(o.File)
			if err != nil {
				return fmt.Errorf("service %s: secret %s: %w", name, r.Source, err)
			}
			j.Secrets[id] = raw
		default:
			return fmt.Errorf("service %s: secret %s has neither file nor environment: %w", name, r.Source, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// platforms are those to build for: those of the build, or the service's.
func platforms(p *types.Project, svc *types.ServiceConfig) []string {
	if len(svc.Build.Platforms) > 0 {
		return svc.Build.Platforms
	}
	if one := platformOf(p, svc); one != "" {
		return []string{one}
	}
	return nil
}

// contextRef is a further context; that of another service is its image.
func contextRef(p *types.Project, c string) string {
	name, ok := strings.CutPrefix(c, types.ServicePrefix)
	if !ok {
		return c
	}
	svc := p.Services[name]
	return "docker-image://" + model.ImageName(p.Name, &svc)
}

func isURL(s string) bool { return strings.Contains(s, "://") || strings.HasPrefix(s, "git@") }

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
